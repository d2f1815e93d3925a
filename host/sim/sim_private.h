/* sim_private - what the files of sim share. */
#ifndef MOONBUS_SIM_SIM_PRIVATE_H
#define MOONBUS_SIM_SIM_PRIVATE_H

#include <stdatomic.h>

#include "app/config.h"
#include "base/sync.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/world.h"
#include "broker/broker_transport.h"
#include "bus/consume/intake.h"
#include "engine/engine.h"
#include "http/http.h"
#include "sim/sim.h"

struct sim_settings {
    struct config *config; /* owned */
};

struct sim {
    struct world *world;            /* owned; NULL: there is a real server */
    const struct sim_outside *real; /* not owned; the real server; NULL: there is a world */
    uint64_t began_ns;
    struct redelivered *redelivered; /* owned; of a real server's messages */
    uint64_t seed, allowed;          /* steps of each call; 0: all of them together have a bound */
    struct broker_server *server;    /* owned */
    struct spy *spies;               /* owned; of each host one */
    struct broker_client *outside;   /* the broker's */
    struct broker_packet *came;      /* owned: what sim_take returned */
    bool keeps_sent, holds_naks, answers_http, diverts_all;
    int calm; /* bus_options.calm of hosts that begin to serve */
    size_t max_payload;
    bool any_thread;               /* of the server */
    const char *only;              /* not owned; the one handler that hosts serve; NULL: all */
    struct http_entry *http_calls; /* owned; the oldest first */
    uint64_t http_count;
    struct http_stand_in http_stand_in;
    struct text http_shown;                 /* what sim_take_http returned */
    struct offload_entry *offload_calls;    /* owned; the oldest first */
    struct offload_module *offload_modules; /* owned */
    uint64_t offload_count;
    struct offload_stand_in offload_stand_in;
    struct diversion *diversions;          /* owned */
    struct sent_message *sent;             /* owned; the oldest first */
    struct sent_message *shown;            /* owned: what sim_take_sent returned */
    struct sent_message *held;             /* owned: NAKs */
    int refusing, freezing, downs, delays; /* faults under way */
    struct outside_message *late;          /* owned: until the server goes on, in order */
    struct mutex lock;                     /* closing, waiting, late */
    struct cond changed;
    bool closing; /* faults and messages to come do not wait any more */
    int waiting;  /* how many do */
    struct sim_host *hosts;
    int host_count;           /* so far */
    struct text notes, taken; /* taken: what the last sim_notes returned */
    const char *wire_notes;   /* the beginning of the subjects of sent messages that are noted */
    char error[9000];
};

/* Where there is no world: what follows is changed by one thread at a time. In a world there is but
 * one OS thread. */
void sim_guard(struct sim *sim);
/* And whoever waits for something to happen looks again. */
void sim_unguard(struct sim *sim);
/* By the world's clock, or the real one. */
uint64_t sim_now_ns(const struct sim *sim);

/* sim_live.c: where there is no world. */
bool sim_live_settle(struct sim *sim);
bool sim_live_step(struct sim *sim, uint64_t until_ns);
void sim_live_publish(struct sim *sim, const struct sim_message *message);
void sim_live_count_from(struct sim *sim, const char *stream, const char *durable,
                         uint64_t deliveries);
/* What came from a real server is a delivery: it is counted anew, if that is wanted. */
void sim_live_recount(struct sim *sim, struct packet *packet);
void sim_live_free(struct sim *sim);
/* sim_host.c: all that hosts have sent has arrived. */
void sim_flush_hosts(struct sim *sim);

/* A line; any fiber, and from outside. */
void sim_note(struct sim *sim, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Runs it on a fiber, for an hour at most. False: it does not end; sim->error tells. */
bool sim_call(struct sim *sim, const char *name, void *(*run)(void *), void *arg);
/* From now on it is the one whose handlers note and log. */
void sim_enter(struct sim *sim);
/* sim_sent.c: a host sends it. True: it goes no further. */
struct transport_message;
bool sim_sent(struct sim *sim, const struct transport_message *message);
void sim_sent_free(struct sim *sim);
/* sim_http.c: what calls of a host go to, owned by it. NULL: no memory; and what is not answered
 * ends, before the host is freed. */
struct http *sim_http_new(struct sim *sim, struct err *err);
void sim_http_end(struct sim *sim, struct http *http);
void sim_http_free(struct sim *sim);
/* sim_offload.c: who answers for modules that were named; what is not answered ends, before the
 * host is freed. */
const struct offload_stand_in *sim_offload_stand_in(struct sim *sim);
void sim_offload_end(struct sim *sim);
void sim_offload_free(struct sim *sim);
/* sim_wire.c: on a fiber. False: the sim is being closed. */
bool sim_wait_until(struct sim *sim, uint64_t until_ns);
void sim_wire_open(struct sim *sim);
/* What the host of this number connects with. Owned by the sim. */
const struct transport_maker *sim_transport(struct sim *sim, int host);
void sim_wire_free(struct sim *sim);
struct sim *sim_here(void);
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
