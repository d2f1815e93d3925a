/* http - calls of other people's HTTP servers, as many at a time as are asked for, on one thread.
 *
 *   any thread ── http_call_new, http_ask ──▶ todo ──▶ "mb-http": line of its host ─▶ libcurl
 *   any thread ◀── on_event (a piece, the end) ◀──────────────────────────────────────┘
 *
 * The thread starts with the first call, and sleeps in epoll alone: libcurl's sockets, its timer
 * and the deadlines of calls; names are resolved on threads of libcurl's own. Connections are kept
 * and used again by whoever calls the same server: HTTP/1.1, and HTTP/2 where TLS agrees on it.
 *
 * A call answers each http_ask with one event. One that is read in pieces has an event for each,
 * and is read from the network no faster than it is asked; any other has one, its end. Exactly one
 * of the event and http_cancel wins.
 *
 * Of the calls to one server (scheme, host, port; or unix socket) at most `per_host` are under way.
 * The others stand in a line for each flow, which take turns. When nothing is under way to a server
 * the first call goes ahead, until its name is resolved (with TLS: until it is connected), so that
 * a hundred calls do not resolve a name a hundred times, nor open a hundred connections where one
 * carries them all.
 *
 * Only http and https, also where a server redirects to. What could forge a header or a second
 * request (CR, LF, NUL) is refused, not repaired. Redirects are followed here, not by libcurl: each
 * is checked, stands in the line of its host, and takes along only to the same origin: Host,
 * Authorization, Cookie and other headers of that kind (http_is_secret), the client's certificate
 * and the URL's password. None leads from https to http, unless that is wanted, nor from a socket
 * to another origin.
 *
 * An answer is bounded in all its parts: its head, what comes before it (1xx) and behind the body
 * (trailers), its body. One with two lengths, or with one that is none, is refused.
 *
 * It knows no Lua and no NATS, never retries, keeps no cookies, reads no .netrc. libcurl may send a
 * request once more whose connection, an old one, turned out to be closed before any answer. */
#ifndef MOONBUS_HTTP_HTTP_H
#define MOONBUS_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct http;
struct http_call;

struct http_options {
    int per_host;                         /* calls to one server that are under way, at most */
    const char *agent;                    /* User-Agent of who states none; copied */
    const struct http_stand_in *stand_in; /* NULL: the network is; outlives the http */
};

/* The main thread. Starts nothing yet. NULL, with err. */
struct http *http_new(const struct http_options *options, struct err *err);

/* From the next call on. Any thread. */
void http_set_per_host(struct http *http, int per_host);

/* Ends all calls (ERR_CLOSED), and the thread: no on_event runs any more. Does not wait for
 * servers, nor for names that are being resolved. What is asked later has ended likewise. Not on
 * the http thread; again, or NULL: no effect. */
void http_stop(struct http *http);

/* Stops it if need be; every call has been released. NULL is allowed. */
void http_free(struct http *http);

/* Calls --------------------------------------------------------------------------------------- */

/* With lengths, so that a NUL inside is seen and refused. */
struct http_header {
    const char *name, *value;
    size_t name_len, value_len;
};

/* What is called, and how. All is copied. */
struct http_request {
    const char *method, *url;
    size_t method_len, url_len;
    const struct http_header *headers;
    size_t header_count;
    const void *body; /* NULL: none */
    size_t body_len;
    int64_t timeout_ns;          /* of the whole: line, redirects and body; above 0 */
    int follow;                  /* redirects, at most; 0: one is an answer like any other */
    bool downgrade;              /* a redirect from https to http is followed, too */
    size_t max_bytes;            /* of the body, once it is unpacked; 0: no bound */
    bool pieces;                 /* the body of a 2xx comes piece by piece */
    const char *unix_path;       /* the socket to connect to; NULL: by the URL's host */
    const char *ca, *cert, *key; /* PEM files; NULL: the system's, none, none */
    bool unverified;             /* whoever the server is */
    const void *flow;            /* whose call it is: calls of one flow keep their order. Only
                                    compared. */
};

enum http_event {
    HTTP_PIECE, /* http_call_piece has it; ask for the next */
    HTTP_END,   /* http_call_result says how */
};

/* On the http thread (or, when it has ended, on the asking one) without any lock; must not block,
 * nor call http_stop. */
typedef void http_on_event(void *owner, enum http_event event);

/* A call that has not begun; one reference. NULL, with err: ERR_INVALID names what is wrong in the
 * request, ERR_MEMORY. Any thread. */
struct http_call *http_call_new(struct http *http, const struct http_request *request,
                                struct err *err);
struct http_call *http_call_retain(struct http_call *call);
/* It goes on without its owner, unless it is cancelled. NULL is allowed. */
void http_call_release(struct http_call *call);

/* Begins the call, or goes on with it, after the last event was seen: on_event(owner) follows once,
 * unless http_cancel wins. Any thread, one at a time. */
void http_ask(struct http_call *call, http_on_event *on_event, void *owner);

/* Ends the call, at once: its connection is closed, unless others use it too. True: it was asked
 * for something, and on_event will not be called; what `owner` holds is the caller's. Any thread.
 */
bool http_cancel(struct http_call *call);

/* After HTTP_PIECE: the next bytes, HTTP_PIECE_MOST at most; the caller frees them. NULL: no memory
 * for them, or there are none. */
#define HTTP_PIECE_MOST ((size_t)64 << 10)
char *http_call_piece(struct http_call *call, size_t *len);

/* What came. The call's; readable after an event, while the caller has a reference. */
struct http_result {
    struct err err;      /* ERR_NONE: the server has answered, whatever it says */
    int status;          /* 0: no answer yet, or none */
    int version;         /* of the protocol: 10, 11, 20 */
    int redirects;       /* followed */
    const char *url;     /* where the answer came from, without password */
    const char *headers; /* name NUL value NUL, as they came; of the last answer */
    size_t header_count;
    const char *body; /* all of it that was not given in pieces */
    size_t body_len;
};
const struct http_result *http_call_result(const struct http_call *call);

/* In place of the network --------------------------------------------------------------------- */

/* Answers calls itself, for tests: there is no thread, no line and no redirect, and nobody but the
 * stand-in ends a call that takes too long. */
struct http_stand_in {
    void *owner;
    /* A call begins; on the asking thread, without a lock. The stand-in has a reference, which
     * http_answer gives back. */
    void (*ask)(void *owner, struct http_call *call);
};

/* What is called; the call's. */
const struct http_request *http_call_request(const struct http_call *call);
const char *http_call_url(const struct http_call *call);

/* err: ERR_NONE: it is answered. All is copied. */
struct http_reply {
    struct err err;
    int status;
    const char *headers; /* "name NUL value NUL" for each */
    size_t header_count;
    const char *body;
    size_t body_len;
};

/* Once for each call. Any thread, without a lock; on_event may be called in it. */
void http_answer(struct http_call *call, const struct http_reply *reply);

/* Figures ------------------------------------------------------------------------------------- */

struct http_counts {
    uint64_t calls, answers, cancelled;  /* begun; ended with an answer; by http_cancel */
    uint64_t failures[1 - ERR_LAST];     /* by code: [-ERR_TIMEOUT] */
    uint64_t redirects, connections;     /* followed; opened */
    uint64_t sent_bytes, received_bytes; /* of bodies; received ones unpacked */
    uint64_t running, waiting;           /* now: under way, in a line */
};

/* Any thread. */
void http_count(struct http *http, struct http_counts *counts);

#endif
