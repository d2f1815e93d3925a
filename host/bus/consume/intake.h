/* intake - what the consumers and subscriptions of a process stand on: the connection that messages
 * come by, and the sink that they go up to. Filled in once, by the bus, and read by any thread from
 * then on; whoever has it outlives none of what it points to. */
#ifndef MOONBUS_BUS_CONSUME_INTAKE_H
#define MOONBUS_BUS_CONSUME_INTAKE_H

struct clock;
struct pool;
struct pool_share;
struct link;
struct jsapi;
struct outbox;
struct delivery;

/* Calls up. on_delivery: on the transport's delivery thread, or, of a message that came again, on
 * any; one delivery or several, each with the one that came after it in its `next`; takes their
 * references; must not block. source: as given to consumer_new or subscription_new. */
struct sink {
    void *owner;
    void (*on_delivery)(void *owner, void *source, struct delivery *delivery);
    /* There was no memory for a core message, so it is lost. On the delivery thread. */
    void (*on_unread)(void *owner, void *source);
    /* What an ordered consumer missed has come, or is waited for no longer: consumer_misses. On any
     * thread; must not block. */
    void (*on_whole)(void *owner, void *source);
};

/* None of it is owned. */
struct intake {
    struct clock *clock;
    struct pool *pool;        /* for what blocks */
    struct pool_share *reads; /* of it, for what scripts read: js.messages, the keys of a bucket */
    struct link *link;        /* reads messages, and carries acks, heartbeats and pulls */
    struct jsapi *jsapi;      /* over another link: no message waits behind what is asked */
    struct outbox *outbox;    /* for dead letters */
    const char *inbox_prefix;
    /* Idle pull requests live and are silent so many times longer, and long retries are delayed
     * naks (which whoever looks on sees as such); 0: as usual. */
    int calm;
    struct sink sink;
};

#endif
