/* link_private - what the files of link share; nobody else includes it.
 *
 *   link.c          the public functions: lanes, waiting, stopping
 *   link_writer.c   the writer thread: connect, write, flush
 *   link_subs.c     subscriptions, over the connections that come and go beneath them
 *   link_events.c   what nats.c tells from its threads, the state, the calls up, the log
 *   link_options.c  natsOptions from link_options: servers, TLS, authentication (link_options.h) */
#ifndef MOONBUS_BUS_LINK_PRIVATE_H
#define MOONBUS_BUS_LINK_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bus/link.h"

#define LINK_LANES 2
#define LINK_STATES_QUEUED 32
#define LINK_COMPLAINTS 32

/* For one sender among several in a lane: how many times of what is left of the lane's bound may
 * wait of it. 3: one alone gets three quarters, two get three sevenths each, and whoever comes next
 * finds room. Of what is `owed` more may wait. */
#define SHARE 3
#define SHARE_OWED 7

/* One frame is one block of memory: this, then subject, reply, data and headers. */
struct frame {
    struct frame *next;
    struct link_gate *gate; /* borrowed; its done() ends that. Or NULL */
    size_t size;            /* of the whole block */
    size_t data_at, len;
    size_t reply_at; /* 0: none */
    size_t headers_at, headers_len;
    char bytes[]; /* the subject first */
};

struct frame_list {
    struct frame *head, *tail; /* owned */
};

/* Flows one after the other, each of them at most once. */
struct flow_queue {
    struct link_flow *head, *tail; /* not owned */
};

/* The frames of one sender, in order: list, which whoever sends appends to, then hand, which the
 * writer writes from. */
struct link_flow {
    enum link_lane lane;
    struct link_flow *next; /* in link->flows; of a lane's own not used */

    /* Guarded by the link's lock. */
    struct frame_list list;
    struct link_flow *next_ready; /* in its lane's `ready` */
    uint64_t waiting;             /* frames, in list and hand */
    size_t bytes;                 /* of them */

    char apart[64]; /* the writer and who sends do not fight over a cache line */

    /* The writer's own. */
    struct frame_list hand;
    struct link_flow *next_turn; /* in link->turns */
    uint64_t wrote;              /* frames that are not taken off `waiting` yet, or 0 */
    size_t wrote_bytes;
    struct link_flow *next_wrote; /* in link->wrote: those with some */
};

struct lane {
    struct link_flow own;    /* what the host itself sends; the whole bound is its share */
    struct flow_queue ready; /* flows with something in their list */
    /* Counted up; `finished` also counts what was dropped. Their difference is what waits, whether
     * in lists or in the writer's hands. */
    uint64_t accepted, finished;
    size_t bytes; /* of what waits */
    size_t max_frames, max_bytes;
};

/* A natsSubscription: one for each connection on which a link_sub was made. It ends when both the
 * writer and nats.c (its completion callback, the last that it makes) have let go of it. */
struct link_life {
    struct link_life *next; /* in link_subs_forget */
    struct link_sub *sub;   /* not owned */
    natsSubscription *handle;
    atomic_int references;
};

struct link_sub {
    struct link_sub *prev, *next;           /* link->subs */
    struct link_sub *todo_prev, *todo_next; /* link->todo */
    struct link *link;                      /* not owned */
    char *subject, *queue;                  /* owned; queue may be NULL */
    void (*on_message)(void *owner, natsMsg *msg);
    void (*on_drained)(void *owner); /* or NULL */
    void *owner;

    /* Guarded by the link's lock. */
    bool in_todo;
    bool wanted;  /* until link_unsubscribe */
    bool leaving; /* the writer has seen that it is not wanted */
    int lives;    /* natsSubscriptions whose callbacks may still run, and the writer's pin */

    struct link_life *life; /* the writer's: on the present connection; NULL when there is none */
};

/* A caller of link_flush, on its stack; in the list only while it waits. */
struct flush_wait {
    struct flush_wait *prev, *next;
    uint64_t targets[LINK_LANES]; /* `finished` of the lanes at which it may be asked for */
    uint64_t deadline_ns;
    uint64_t round; /* of the PING that covers it; 0: none yet */
    bool done;
};

struct link {
    const char *label;                  /* borrowed, static */
    const struct link_options *options; /* borrowed */
    struct link_events events;
    natsOptions *nats; /* owned; made in link_start */
    char *servers;     /* owned; for the log: without credentials */
    pthread_t writer;

    atomic_int state; /* enum link_state; written under the lock */
    atomic_size_t max_payload;

    /* Guards everything below it up to the mark. A leaf: nothing of nats.c and no call up is made
     * with it held. */
    pthread_mutex_t lock;
    pthread_cond_t work;    /* the writer waits here */
    pthread_cond_t changed; /* callers that block wait here */
    struct lane lanes[LINK_LANES];
    struct link_flow *flows; /* owned */
    struct link_sub *subs;   /* owned */
    struct link_sub *todo;   /* those that the writer must look at */
    struct flush_wait *flushes;
    uint64_t flush_round;
    bool started, stopping, writer_idle, writer_done, writer_joined;
    int lives;               /* sum over subs */
    uint64_t opened, closed; /* connections that were made, and that nats.c has closed */
    enum link_state queued_states[LINK_STATES_QUEUED]; /* that wait for their call up */
    int queued_count;
    bool delivering;        /* someone makes those calls */
    int calls_up;           /* that run now */
    char server[256];       /* host:port of the present or last connection */
    char error[256];        /* what nats.c last complained of on this connection */
    uint64_t lost_ns;       /* since when there is no connection; 0: there is */
    uint64_t unanswered_ns; /* since when the server answers no PING of ours; 0: it does */
    uint64_t complaints[LINK_COMPLAINTS]; /* hashes of permission errors that were logged */
    int complaint_count;

    /* The writer's own. */
    natsConnection *nc;                  /* owned */
    struct flow_queue turns[LINK_LANES]; /* flows with something in hand, the next one first */
    struct link_flow *wrote;
    uint64_t hold_until_ns; /* after a failed write, until nats.c has noticed */
    uint64_t connected_ns;
    unsigned attempts; /* in a row, to connect */
};

/* link.c */
void link_wait_until(struct link *link, pthread_cond_t *cond, uint64_t deadline_ns);
void link_drop_frames(struct frame_list *list);
/* To the end of `to`; from is empty then. */
void link_join_frames(struct frame_list *to, struct frame_list *from);

/* link_writer.c */
void *link_writer(void *arg);

/* link_events.c: what nats.c last said on this thread, if it was about this status; without the
 * place in its source that it begins with. Borrowed until its next call. */
const char *link_reason(natsStatus status);

/* link_subs.c; all on the writer's thread */
void link_subs_renew(struct link *link);  /* lock held: a connection was made */
void link_subs_settle(struct link *link); /* does what is in link->todo */
void link_subs_forget(struct link *link); /* the connection is about to be destroyed */

/* link_events.c */
/* Programs that a script starts do not inherit the connection's socket, which nats.c leaves open to
 * them: it is found by its address. */
void link_close_on_exec(natsConnection *nc);
void link_set_state(struct link *link, enum link_state state); /* lock held */
void link_deliver_states(struct link *link);                   /* lock not held */
void link_on_disconnected(natsConnection *nc, void *closure);
void link_on_reconnected(natsConnection *nc, void *closure);
void link_on_closed(natsConnection *nc, void *closure);
void link_on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure);

/* link_options.c, beside link_options.h */
/* Milliseconds before the attempt-th try to connect (counted from 1). */
int64_t link_reconnect_wait_ms(const struct link_options *options, unsigned attempt);

#endif
