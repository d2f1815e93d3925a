/* link_private - what the files of link share; nobody else includes it.
 *
 *   link.c          the public functions: lanes, waiting, stopping
 *   link_write.c    what is written, in which order: by the writer, or in its place
 *   link_writer.c   the writer thread: when it writes, flushes
 *   burst.c         threads that write what they send in the writer's place
 *   link_connect.c  its connections: each server in turn, and why one cannot be reached
 *   link_subs.c     subscriptions, over the connections that come and go beneath them
 *   link_events.c   the transport's calls up, the state, the log
 *   link_listener.c listeners to the state
 *   link_gather.c   those who gather what one read brings
 *
 * They know a server by its transport alone (transport.h). With headers of their own:
 * link_options.c and link_url.c. */
#ifndef MOONBUS_BUS_LINK_LINK_PRIVATE_H
#define MOONBUS_BUS_LINK_LINK_PRIVATE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/stat.h"
#include "base/sync.h"
#include "base/thread.h"
#include "bus/link/encode.h"
#include "bus/link/link.h"
#include "bus/link/transport.h"

#define LINK_LANES 2
#define LINK_STATES_QUEUED 32
#define LINK_COMPLAINTS 32
#define LINK_TOLERATED 4
#define LINK_TOLD 16

/* For one sender among several in a lane: how many times of what is left of the lane's bound may
 * wait of it. 3: one alone gets three quarters, two get three sevenths each, and whoever comes next
 * finds room. Of what is `owed` more may wait. */
#define SHARE 3
#define SHARE_OWED 7

/* One frame is one block of memory: this, then the message as it goes over the wire. */
struct frame {
    struct frame *next;
    struct link_gate *gate; /* borrowed; its done() ends that. Or NULL */
    size_t size;            /* of the whole block */
    struct encoded encoded;
    char wire[];
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

    char apart[64]; /* the writer and senders do not fight over a cache line */

    /* The writer's own. */
    struct frame_list hand;
    struct link_flow *next_turn; /* in link->turns */
    uint64_t wrote;              /* frames that are not taken off `waiting` yet, or 0 */
    size_t wrote_bytes;
    struct link_flow *next_wrote; /* in link->wrote: those with some */
};

struct frame_lane {
    struct link_flow own;    /* what the host itself sends; the whole bound is its share */
    struct flow_queue ready; /* flows with something in their list */
    /* Counted up; `finished` also counts what was dropped. Their difference is what waits, whether
     * in lists or in the writer's hands. */
    uint64_t accepted, finished;
    size_t bytes; /* of what waits */
    size_t max_frames, max_bytes;
};

/* A link_sub on one connection. Freed when both the writer and the transport (on_end) have released
 * it. */
struct link_life {
    struct link_life *next;       /* in link_subs_reset */
    struct link_sub *sub;         /* not owned */
    struct transport_sub *handle; /* freed with the life */
    atomic_int references;
};

struct link_sub {
    struct link_sub *prev, *next;           /* link->subs */
    struct link_sub *todo_prev, *todo_next; /* link->todo */
    struct link *link;                      /* not owned */
    char *subject, *queue;                  /* owned; queue may be NULL */
    void (*on_message)(void *owner, struct packet *packet);
    void (*on_drained)(void *owner); /* or NULL */
    void *owner;
    const char *without; /* static: what goes without it; NULL: it is needed */

    /* Guarded by the link's lock. */
    bool in_todo;
    bool wanted;  /* until link_unsubscribe */
    bool leaving; /* the writer has seen that it is not wanted */
    bool refused; /* the server does not let this user subscribe */
    bool again;   /* it is refused, and to be tried again on the same connection */
    bool tried;   /* it was, and the server has not said no since */
    int lives;    /* those whose callbacks may still run, and the writer's pin */

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
    struct clock *clock;                 /* not owned; the transport's */
    const struct transport_maker *maker; /* not owned */
    struct transport *transport;         /* owned; NULL before link_start */
    char *servers;                       /* owned; for the log: without credentials */
    struct thread writer;

    atomic_int state; /* enum link_state; written under the lock */
    atomic_size_t max_payload;

    struct mutex listeners_lock;     /* guards the list; held while they are called. Before their */
    struct link_listener *listeners; /* own locks and `lock`; never taken with one of them held */

    /* Guards everything below it up to the mark. A leaf: the transport is not called and nobody
     * is called up with it held. */
    struct mutex lock;
    struct cond work;    /* the writer waits here */
    struct cond changed; /* callers that block wait here */
    struct frame_lane lanes[LINK_LANES];
    struct link_flow *flows; /* owned */
    struct link_sub *subs;   /* owned */
    struct link_sub *todo;   /* those that the writer must look at */
    struct flush_wait *flushes;
    uint64_t flush_round;
    uint64_t asked_ns; /* when its PING was sent, while the transport waits for that; else 0 */
    bool started, stopping, writer_done, writer_joined;
    bool writer_idle; /* it waits for something to do, and nobody writes in its place */
    bool lent;        /* somebody does (link_write), and what is the writer's is theirs */
    bool any_thread;  /* somebody may: as transport_place has it */
    bool gone; /* the connection will not come back by itself: the writer makes another one */
    bool fell; /* it was lost, perhaps before the writer could say that it is there */
    int lives; /* sum over subs */
    uint64_t opened, closed; /* connections that were made, and that have closed */
    enum link_state queued_states[LINK_STATES_QUEUED]; /* that wait for their call up */
    int queued_count;
    bool delivering;        /* someone makes those calls */
    int calls_up;           /* that run now */
    char server[256];       /* host:port of the present or last connection */
    const char *wire;       /* which way its messages go; static; NULL before the first one */
    char error[256];        /* what it last complained of */
    char trouble[512];      /* why there is none, with the servers; "" while there is */
    uint64_t lost_ns;       /* since when there is no connection; 0: there is */
    uint64_t connects;      /* how often it has come up */
    uint64_t away_ns;       /* how long it was away before that, in all, since it first was up */
    uint64_t rtt_ns;        /* of the last PONG, or the network's alone; 0: not known */
    uint64_t rtt_asked_ns;  /* when somebody wanted to know it */
    bool rtt_wanted;        /* and the writer has not looked since */
    uint64_t confirm_ns;    /* when what was tried again may be taken as granted; 0: nothing was */
    uint64_t unanswered_ns; /* since when the server answers no PING of ours, where the network
                               would have had the time; 0: it does, or the transport finds out */
    uint64_t complaints[LINK_COMPLAINTS]; /* hashes of permission errors that were logged */
    int complaint_count;
    uint64_t complaints_more, more_told_ns; /* those that found no room, and are not logged yet */
    const char *told_without;               /* the last one of those that were warned of; static */
    char tolerated[LINK_TOLERATED][256];    /* the subjects of link_tolerate */
    int tolerated_count;

    /* The delivery thread's own: who has asked to be called when the read ends, when it came. */
    struct link_gatherer *gatherers, *last_gatherer; /* not owned */
    uint64_t read_ns;                                /* 0: nobody has asked */

    /* Counted by the writer, and by the delivery thread. */
    struct stat_counter sent, sent_bytes;
    struct stat_counter received, received_bytes;

    /* The writer's own; and theirs who write in its place, as far as they need it. */
    bool connected;                 /* between the transport's connect and disconnect */
    struct transport_server *known; /* owned; server_count of them */
    int server_count, turn;         /* turn: the next to be tried */
    bool tls;                       /* one is tls://: all are */
    uint64_t told[LINK_TOLD];       /* hashes of troubles that this outage was logged with */
    int told_count;
    struct flow_queue turns[LINK_LANES]; /* flows with something in hand, the next one first */
    struct link_flow *wrote;
    uint64_t hold_until_ns; /* after a failed write, until it is noticed; or while a burst
                               gathers */
    uint64_t burst;         /* frames since the last push or PING */
    uint64_t connected_ns;
    unsigned attempts; /* in a row, to connect */
};

/* link.c */
void link_wait_until(struct link *link, struct cond *cond, uint64_t deadline_ns);
void link_drop_frames(struct frame_list *list);
/* To the end of `to`; from is empty then. */
void link_join_frames(struct frame_list *to, struct frame_list *from);

/* link_write.c; all of these but the last one: for whoever has the turn to write */

/* Lock held: takes what is there. Only while no subscription waits: what it is for may be among the
 * frames, and must not come first. */
void link_take_frames(struct link *link, enum link_lane which);
/* Writes at most `most` frames of what was taken, and about `room` bytes. False: the connection
 * does not take them. */
bool link_write_lane(struct link *link, enum link_lane which, uint64_t most, size_t room);
/* The flow whose turn it is; there is one. */
struct link_flow *link_pop_turn(struct flow_queue *turns);
/* Lock held: what was written waits no more. */
void link_count_written(struct link *link);
bool link_hands_empty(const struct link *link);
/* Lock held: there is something to do for the writer. */
bool link_work_waits(const struct link *link);
/* Any thread, no lock held: writes what waits while the writer sleeps, and wakes it if that is not
 * enough. Does not block. */
void link_write(struct link *link);

/* link_writer.c */
void *link_writer(void *arg);
/* Lock held: does somebody want a PONG? */
bool link_flush_wanted(const struct link *link);

/* link_connect.c */
int link_servers_make(struct link *link, struct err *err);
void link_servers_free(struct link *link);
/* On the writer's thread. False: the link stops. */
bool link_connect(struct link *link);
void link_disconnect(struct link *link);
/* A connection is there: a new one by the writer, or by the transport in place of a lost one. */
void link_up(struct link *link, bool anew);

/* link_subs.c; all on the writer's thread */
void link_subs_renew(struct link *link);  /* lock held: a connection was made */
void link_subs_settle(struct link *link); /* does what is in link->todo */
void link_subs_tried(struct link *link);  /* lock held: what was refused was subscribed to again */
/* Lock held: the server has answered a PING that was sent at asked_ns. */
void link_subs_confirm(struct link *link, uint64_t asked_ns);
/* Lock held; any thread: it refuses this. cut: the subject is only the beginning of one. */
/* Of an optional subscription: what goes without it; NULL: there is none to the subject. Lock held.
 */
const char *link_subs_without(const struct link *link, const char *subject);
void link_subs_refused(struct link *link, const char *subject, bool cut, const char *queue);
void link_subs_await(struct link *link); /* until what had come is delivered */
void link_subs_reset(struct link *link); /* the connection is about to end, or has ended */

/* link_events.c */
void link_set_state(struct link *link, enum link_state state); /* lock held */
void link_deliver_states(struct link *link);                   /* lock not held */
/* The transport's calls up, with the link as their owner. */
struct transport_events link_transport_events(struct link *link);

/* link_gather.c: the transport's call up */
void link_read_end(void *owner);

/* link_listener.c: the owner's call up, and theirs; no lock held */
void link_call_listeners(struct link *link, enum link_state state);

#endif
