/* socket_private - what the files of the transport over a socket of our own share; nobody else
 * includes it.
 *
 *   socket_transport.c  making it, connecting and disconnecting: the writer's calls
 *   socket_events.c     what nats.c calls
 *   socket_session.c    between nats.c and us, on the reader's thread
 *   socket_reader.c     the reader thread: what has come, what is due
 *   socket_input.c      what has come, parsed and handed up
 *   socket_output.c     what is to be sent
 *   socket_subs.c       subscriptions
 *
 * A session, as the reader sees it:
 *
 *            attach             nats.c's PING                  server, network, nats.c, writer
 *   (none) ─────────▶ verifying ─────────────▶ live ──▶ socket_lost ──▶ (none): nats.c is told, and
 *                                                              makes another one, or is closed
 *
 * What nats.c calls us for comes with its own lock held, so those calls leave a flag and wake the
 * reader; the reader calls nats.c without ours. Each of its calls is between enter and leave
 * (socket_session.c), so that nats.c's connection is never destroyed meanwhile. */
#ifndef MOONBUS_BUS_LINK_SOCKET_PRIVATE_H
#define MOONBUS_BUS_LINK_SOCKET_PRIVATE_H

#include "base/sync.h"
#include "base/table.h"
#include "base/thread.h"
#include "bus/link/chunk.h"
#include "bus/link/nats_session.h"
#include "bus/link/socket_transport.h"

struct socket_sub {
    struct transport_sub sub; /* first: the calls cast back */
    UT_hash_handle hh;        /* in socket->subs, until it has ended */
    uint64_t sid;
    struct transport_handler handler;
    char *subject, *queue; /* owned; queue may be NULL */

    atomic_bool silent; /* nothing is handed up any more */

    /* Guarded by the lock. */
    bool in_table;
    bool leaving;      /* UNSUB was sent, or needs not be */
    uint64_t leave_at; /* it ends with the PONG of this number; 0: at once */
};

/* A piece of what is to be sent. */
struct socket_piece {
    struct socket_piece *next;
    size_t from, to, capacity;
    char bytes[];
};

struct socket_output {
    struct socket_piece *head, *tail; /* owned */
    struct socket_piece *spare;       /* owned: one that is empty; or NULL */
    size_t bytes;                     /* that are not sent */
    bool blocked;                     /* the socket takes no more for now: the reader sends it */
    uint64_t progress_ns;             /* when it last took something, while it is blocked */
};

enum socket_fitness {
    SOCKET_FIT,
    SOCKET_TLS,   /* nats.c speaks TLS over it */
    SOCKET_UNFIT, /* nats.c does not use its descriptor as it should */
};

struct socket_transport {
    struct nats_transport nats; /* first: it makes the sessions */
    struct thread reader;
    bool reads;    /* the writer's: the reader runs */
    bool own;      /* the writer's: the present connection is one of ours, not nats.c's alone */
    bool given_up; /* the same: none will be ours any more */
    int wake;      /* an eventfd: the reader looks at its orders */

    atomic_size_t max_payload;
    atomic_bool headers; /* the server takes them */

    struct mutex lock; /* guards what is below, up to the mark; a leaf */
    struct cond changed;

    /* Between nats.c and the reader. */
    natsConnection *nc;     /* whom the reader may call; NULL: nobody */
    natsSock descriptor;    /* nats.c's, while it is attached; else -1 */
    int next_tcp, next_ctl; /* of a session that the reader has not taken yet; or -1 */
    bool wants_write;       /* nats.c has something to write */
    bool ended;             /* nats.c reads no more from its descriptor */
    bool detached;          /* its connection is about to go */
    bool attached;          /* it has had a session */
    bool in_call;           /* the reader is in a call of nats.c */
    bool gone, closed;      /* nats.c waits for ever; has closed: to be told by the reader */

    /* Between the writer and the reader. */
    bool closing;        /* the writer ends it: what was sent is sent, nothing more */
    uint64_t closing_ns; /* since when */
    bool stop;           /* the reader ends */
    bool made;           /* a session of this connection has been live: its end is told */
    bool over;           /* it has closed, and every subscription ended */
    enum socket_fitness fitness;
    char unfit_why[128];
    uint64_t rounds; /* of the reader: how often it has handed up all that there was */

    /* The session. */
    bool live;   /* what is sent goes out */
    bool failed; /* a write has: the reader ends it */
    int tcp;     /* owned; closed by the reader alone. -1: there is none */
    struct socket_output out;
    uint64_t ended_count;  /* sessions that have ended */
    uint64_t pings, pongs; /* asked for, and come: all of them, the writer's and the reader's */
    uint64_t awaited;      /* the PONG that the writer waits for, */
    uint64_t awaited_in;   /* and `ended_count` of its session; awaited 0: none */
    struct socket_sub *subs;
    uint64_t last_sid;
    int leaving; /* subs that are */

    /* The reader's own. */
    int ctl; /* owned; our end of the pair, or -1 */
    bool up; /* live, and it was told */
    bool verifying;
    uint64_t verify_until_ns, live_ns;
    uint64_t ping_at_ns, unanswered_ns; /* of its own PINGs: when, and since when none came back */
    int unanswered;
    char line[1024]; /* of nats.c: what has no end yet */
    size_t line_len;
    struct chunk_input in;
    size_t in_wanted, in_seen; /* of the parser: bytes, until it is worth another look */
    struct socket_sub *last;   /* whom the last message was for */
    bool reading;              /* something was handed up, and the end of the read was not */
    int broken;                /* sessions in a row that ended at once, as it was not NATS */
};

static inline struct socket_transport *socket_of(struct transport *transport)
{
    return (struct socket_transport *)transport;
}

/* socket_events.c */

/* Options of nats.c for sessions of ours. */
natsStatus socket_prepare(struct nats_transport *nats, natsOptions *options);
/* The reader looks at what is ordered; lock held. */
void socket_wake(struct socket_transport *socket);
/* A descriptor, if there is one; there is none then. */
void socket_close(int *descriptor);

/* socket_session.c */

/* All on the reader's thread, without the lock. */
void socket_take_orders(struct socket_transport *socket);
void socket_read_control(struct socket_transport *socket);
/* Hands a line of the server's on to nats.c. False: the session has ended. */
bool socket_feed(struct socket_transport *socket, const char *line, size_t len);
/* Ends the session. why: what it is lost for; NULL: the server or the network has closed it. */
void socket_lost(struct socket_transport *socket, const char *why);
void socket_unfit(struct socket_transport *socket, enum socket_fitness fitness, const char *why);

/* socket_reader.c */
void *socket_reader(void *arg);

/* socket_input.c; on the reader's thread. Reads and hands up what there is. */
void socket_read(struct socket_transport *socket);
/* All that was handed up so far is told to be; before anything else is called up. */
void socket_end_read(struct socket_transport *socket);

/* socket_output.c */
enum transport_sent socket_publish(struct transport *transport,
                                   const struct transport_message *message, const char **why);
bool socket_push(struct transport *transport);
enum transport_pong socket_ping(struct transport *transport, int64_t wait_ns);
/* Lock held: the text is to be sent; false: out of memory, and the session fails. */
bool socket_put(struct socket_transport *socket, const char *text, size_t len);
/* The same of a PING, if there is a session. The number of its PONG; 0: none will come. */
uint64_t socket_put_ping(struct socket_transport *socket);
/* Lock held: what waits is sent, unless the network takes no more for now: then the reader goes on
 * with it, when it does. */
void socket_send(struct socket_transport *socket);
void socket_send_on(struct socket_transport *socket);
void socket_output_clear(struct socket_transport *socket);

/* socket_subs.c */
enum transport_subscribed socket_subscribe(struct transport *transport, const char *subject,
                                           const char *queue,
                                           const struct transport_handler *handler,
                                           struct transport_sub **out, const char **why);
void socket_drain(struct transport_sub *from);
void socket_unsubscribe(struct transport_sub *from);
void socket_await(struct transport_sub *from);
void socket_sub_free(struct transport_sub *sub);
struct socket_sub *socket_find_sub(struct socket_transport *socket, uint64_t sid);
/* Lock held: the session has begun. */
void socket_subs_send(struct socket_transport *socket);
enum socket_leavers {
    SOCKET_DUE,     /* whose PONG has come, or that leave at once */
    SOCKET_LEAVING, /* that leave, as their session has ended */
    SOCKET_ALL,
};
/* On the reader's thread, without the lock: these subscriptions end. */
void socket_subs_end(struct socket_transport *socket, enum socket_leavers which);

/* socket_transport.c */
extern const struct transport_kind socket_transport_kind;

#endif
