/* broker_transport_private - what the files of the transport to a broker share; nobody else
 * includes it.
 *
 *   broker_transport.c          the calls of a link's writer
 *   broker_transport_session.c  a connection: what is on its way, in both directions
 *   broker_transport_server.c   the server: its thread, its faults */
#ifndef MOONBUS_BROKER_BROKER_TRANSPORT_PRIVATE_H
#define MOONBUS_BROKER_BROKER_TRANSPORT_PRIVATE_H

#include "base/sync.h"
#include "base/thread.h"
#include "broker/broker_transport.h"

#define BROKER_NEVER UINT64_MAX

enum broker_note_kind {
    /* To the server. */
    NOTE_PUBLISH,
    NOTE_SUBSCRIBE,   /* message: subject, and its queue as the reply */
    NOTE_UNSUBSCRIBE, /* answered by NOTE_ENDED */
    NOTE_PING,        /* answered by NOTE_PONG */
    NOTE_BYE,         /* the last one */
    /* To the link. */
    NOTE_PACKET,
    NOTE_PONG,
    NOTE_ERROR,  /* message: the sentence as the subject */
    NOTE_ENDED,  /* the last one of a subscription */
    NOTE_LOST,   /* behind all that arrived before the loss */
    NOTE_CLOSED, /* the last one */
};

/* One thing on its way. */
struct broker_note {
    struct broker_note *next;
    uint64_t due_ns; /* when it arrives; never before the one in front of it */
    enum broker_note_kind kind;
    uint64_t sid;
    struct broker_packet *packet;  /* owned: of NOTE_PACKET */
    struct broker_message message; /* in bytes */
    char bytes[];
};

struct broker_notes {
    struct broker_note *head, *tail; /* owned */
};

struct broker_sub {
    struct transport_sub sub; /* first: the calls cast back */
    struct broker_sub *prev, *next;
    struct broker_session *session; /* not owned; while it is in its list */
    struct transport_handler handler;
    uint64_t sid;
    bool dropped; /* nothing is handed up any more */
};

/* One connection. The link's half ends with NOTE_CLOSED, the server's when it has read NOTE_BYE or
 * was told to forget it; it is freed when both have. Guarded by the server's lock. */
struct broker_session {
    struct broker_session *prev, *next; /* server->sessions */
    struct broker_server *server;       /* not owned */
    struct broker_line *line;           /* the link's half; not owned; NULL: it has ended */
    struct broker_client *client;       /* the server's half; NULL: it has ended */
    struct broker_notes in, out;
    struct broker_sub *subs; /* not owned: the link's */
    uint64_t last_sid;
    uint64_t pings, pongs; /* of the writer's: asked for, and come */
    bool reading;          /* a packet was handed up, and the end of the read was not */
    bool cut;              /* what is sent does not arrive */
    bool lost;             /* and the link has heard of it */
    uint64_t ping_at_ns;   /* when the link next looks for a sign of life */
    int pings_out;         /* how many had no answer */
};

/* One link: a transport. */
struct broker_line {
    struct transport transport;         /* first: the calls cast back */
    struct broker_line *prev, *next;    /* server->lines */
    struct broker_server *server;       /* not owned */
    const struct link_options *options; /* borrowed */
    struct transport_events events;
    int number;
    struct broker_session *session; /* the present one; NULL: none */
    bool interrupted;
};

struct broker_server {
    struct transport_maker maker; /* first: make casts back */
    struct broker *broker;        /* owned */
    size_t max_payload;
    bool any_thread;   /* of its links: as transport_place has it */
    uint64_t began_ns; /* its time 0 */
    struct thread thread;

    struct mutex lock;   /* guards all that is below, and the broker; no call up is made with it */
    struct cond work;    /* its thread waits */
    struct cond changed; /* writers wait: for a PONG, for a server that is frozen */
    struct broker_line *lines;
    struct broker_session *sessions; /* owned; the one that was served last at the end */
    int made;                        /* lines, ever */
    bool stopping, frozen, down;
    char refused[256]; /* why it takes no connection; "" it does */
    uint64_t in_ns, out_ns;
    char lose[256]; /* the subject of what is lost next */
    int losses;
    char lose_in[256]; /* the same of what is on its way to the server, after so many */
    int skip_in, losses_in;
};

/* broker_transport_session.c; all with the server's lock held. */

/* NULL: out of memory. */
struct broker_session *broker_session_new(struct broker_line *line);
/* Frees it when both halves have ended. */
void broker_session_reap(struct broker_session *session);
/* Puts something on its way; message may be NULL. False: out of memory. */
bool broker_session_send(struct broker_session *session, enum broker_note_kind kind, uint64_t sid,
                         const struct broker_message *message);
bool broker_session_answer(struct broker_session *session, enum broker_note_kind kind, uint64_t sid,
                           const char *text);
/* The server reads all that has arrived. */
void broker_session_read(struct broker_session *session, uint64_t now_ns);
/* What the broker has for it is on its way from now on. */
void broker_session_collect(struct broker_session *session);
/* Is there something to be handed up? */
bool broker_session_has_arrived(const struct broker_session *session, uint64_t now_ns);
/* Hands one thing up that has arrived, without the lock meanwhile; the session may be gone then.
 * False: there was none. */
bool broker_session_hand_up(struct broker_session *session, uint64_t now_ns);
/* The link looks for a sign of life, if that is due. */
void broker_session_watch(struct broker_session *session, uint64_t now_ns);
/* When something arrives or is due next. */
uint64_t broker_session_next_ns(const struct broker_session *session);
void broker_session_cut(struct broker_session *session, enum broker_loss loss);
/* The server knows it no more. */
void broker_session_disconnect(struct broker_session *session);
/* The link ends it. */
void broker_session_close(struct broker_session *session);

/* broker_transport.c */
struct transport *broker_line_make(const struct transport_maker *maker,
                                   const struct link_options *options, struct clock *clock,
                                   const struct transport_events *events, struct err *err);

#endif
