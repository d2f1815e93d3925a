/* http_private - what the files of http/ share: http.c the thread, http_call.c what other threads
 * see of a call, http_stand_in.c who answers in place of the network, http_transfer.c one request,
 * http_answer.c what comes back, http_host.c who may go next, http_kept.c what is used again.
 *
 * A call belongs to the http thread from its first http_ask until it has ended. What others touch
 * meanwhile stands under `lock`, a leaf: nothing is called with it held. */
#ifndef MOONBUS_HTTP_HTTP_PRIVATE_H
#define MOONBUS_HTTP_HTTP_PRIVATE_H

#include <curl/curl.h>
#include <stdatomic.h>

#include "base/sync.h"
#include "base/table.h"
#include "base/thread.h"
#include "base/wheel.h"
#include "http/http.h"
#include "http/http_line.h"
#include "http/http_url.h"

/* Handles of libcurl that are kept for calls to come: after a burst, and once it is quiet. */
#define HANDLES_MOST 1024
#define HANDLES_KEPT 64

struct http {
    struct mutex lock;
    struct http_call *todo, *todo_last;   /* lock; a reference each: calls that want something */
    struct http_counts counts;            /* lock */
    bool started, stopping;               /* lock */
    struct thread thread;                 /* while `started` */
    int wake_fd, epoll_fd;                /* owned */
    const struct http_stand_in *stand_in; /* not owned; NULL: the network is called */
    atomic_int per_host;
    char *agent;          /* owned; never changes */
    char *ca, *ca_folder; /* owned; SSL_CERT_FILE and SSL_CERT_DIR, or NULL */
    bool proxied;         /* the environment names a proxy */

    /* The thread's. */
    CURLM *multi;                /* owned */
    CURLSH *share;               /* owned: TLS sessions */
    CURL *handles[HANDLES_MOST]; /* owned */
    int handle_count;
    int sockets;             /* open, without TLS */
    int takers;              /* calls that have one of them, or look for one that nobody uses */
    int under_way;           /* calls that libcurl has */
    int connections_kept;    /* that nobody uses, at most; never changes */
    int connections_most;    /* as libcurl was told last */
    uint64_t curl_due_ns;    /* when libcurl wants to be called; UINT64_MAX: never */
    struct wheel *deadlines; /* owned; ticks are ms of clock_now_ns */
    struct http_host *hosts; /* owned; by origin */
    struct http_call *calls; /* references held: all that have begun */
    struct http_call *ready; /* not owned: those whose turn has come */
};

/* A server, while anything is under way to it or waits for that. */
struct http_host {
    UT_hash_handle hh;
    struct http_line line;
    int running;
    struct http_call *scout; /* not owned; goes ahead, the others wait; or NULL */
    char origin[];
};

enum http_want { WANT_START = 1, WANT_MORE = 2, WANT_CANCEL = 4 };

enum http_phase {
    PHASE_LINE,    /* waits for its turn */
    PHASE_CONNECT, /* its name is resolved, a connection is made */
    PHASE_SENT,    /* the request is on its way, nothing has come */
    PHASE_ANSWER,  /* the head of the answer is there */
};

/* Bytes that grow; owned. */
struct http_bytes {
    char *at;
    size_t len, capacity;
};

struct http_call {
    atomic_int references;
    struct http *http;           /* not owned */
    struct http_request request; /* its strings are in `text`; never changes */
    char *text;                  /* owned */

    /* Under http->lock. */
    http_on_event *on_event; /* NULL: nothing is asked */
    void *owner;
    struct http_call *todo_next;
    unsigned wants; /* enum http_want; not 0: it is on the list */
    bool begun, ended, cancelled;
    struct http_bytes kept; /* of a body that is read in pieces: what waits to be taken */
    size_t kept_from;       /* what is before this has been taken */

    /* The thread's, before it has begun its maker's. */
    struct http_call *prev, *next;             /* http->calls */
    struct http_call *ready_prev, *ready_next; /* http->ready */
    bool ready;
    struct wheel_timer deadline;
    struct http_host *host; /* where it waits or is under way; NULL: neither */
    struct http_place place;
    enum http_phase phase;
    struct http_url url;          /* what is called now */
    const char *method;           /* borrowed from the request, or static */
    bool bare;                    /* without body: a redirect made it a GET */
    bool foreign;                 /* at another origin than the first: nothing secret goes along */
    CURL *easy;                   /* owned while it is under way */
    struct curl_slist *list;      /* owned: the request's headers */
    char reason[CURL_ERROR_SIZE]; /* libcurl's */
    bool takes;                   /* it is one of http->takers */
    bool paused;                  /* libcurl reads no more of it */

    /* The answer. */
    struct http_bytes head, body;
    size_t head_count;
    size_t head_seen; /* bytes of heads and trailers, interim answers' too */
    int interims;     /* answers of 1xx that came before */
    bool head_done;
    bool moves;        /* to where it leads; what its body says does not matter */
    bool streams;      /* in pieces */
    size_t body_seen;  /* bytes of it so far */
    struct err failed; /* what its callbacks found; ERR_NONE: nothing */
    struct http_result result;
};

/* http.c */

/* The thread runs, or does now. False: it cannot be started. With the lock held. */
bool http_start(struct http *http);
/* Something new is wanted of the call. With the lock held; true: wake the thread, without it. */
bool http_todo(struct http_call *call, unsigned want);
void http_wake(struct http *http);

/* http_call.c: the call is over, as `err` (NULL: with an answer) says; the thread's reference goes.
 * On the thread. */
void http_call_finish(struct http_call *call, const struct err *err);
/* More of a body that is read in pieces. 0, ERR_MEMORY or ERR_TOO_LARGE. On the thread. */
int http_call_offer(struct http_call *call, const char *bytes, size_t len);
/* Does as much of it wait as is kept? On the thread. */
bool http_call_full(struct http_call *call);
/* Puts more behind them; false: no memory. */
bool http_bytes_add(struct http_bytes *bytes, const char *more, size_t len);

/* http_host.c: all on the thread. */

/* The call waits for its turn at call->url. False: no memory. */
bool http_host_enter(struct http_call *call);
/* It does not wait any more, nor is it under way. */
void http_host_leave(struct http_call *call);
/* Its server's name is resolved, or it is connected: the others may go. */
void http_host_found(struct http_call *call);

/* http_answer.c: all on the thread. */

/* A request is sent: nothing of its answer is there. */
void http_answer_begin(struct http_call *call);
/* The value of a header of the answer; NULL: it has none of that name. */
const char *http_answer_header(const struct http_call *call, const char *wanted);
/* For libcurl: a line of the head, some of the body. owner is the call. */
size_t http_answer_head(char *bytes, size_t size, size_t count, void *owner);
size_t http_answer_body(char *bytes, size_t size, size_t count, void *owner);

/* http_kept.c: all on the thread, or while there is none. */

/* When there is a multi handle: how much is kept. */
void http_kept_open(struct http *http);
/* A handle of libcurl, as new; NULL: no memory. */
CURL *http_kept_take(struct http *http);
void http_kept_return(struct http *http, CURL *easy);
/* Is no connection free, so that libcurl need not look for one? If not so, the call takes one. */
bool http_kept_none(struct http_call *call);
/* libcurl has opened a connection for the call, which takes it. */
void http_kept_opened(struct http_call *call);
/* The call has none any more. */
void http_kept_left(struct http_call *call);
/* For libcurl: it closes a connection without TLS. owner is the http. */
int http_kept_closed(void *owner, curl_socket_t fd);
/* Tells libcurl how many connections it may have. */
void http_kept_bound(struct http *http);
/* It is quiet: what a burst left is given back. */
bool http_kept_surplus(const struct http *http);
void http_kept_trim(struct http *http);

/* http_transfer.c: all on the thread. */

/* Sends the request; 0, or an error. */
int http_transfer_begin(struct http_call *call, struct err *err);
/* libcurl has done with it. True: it goes on somewhere else (call->url); false: it is over, as
 * *err says. */
bool http_transfer_end(struct http_call *call, CURLcode code, struct err *err);
/* What it has of libcurl is given back. Nothing when it has nothing. */
void http_transfer_drop(struct http_call *call);
/* What it was doing when its time was over. */
void http_transfer_late(const struct http_call *call, struct err *err);

#endif
