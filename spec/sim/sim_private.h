/* sim_private - what the files of sim share. */
#ifndef MOONBUS_SPEC_SIM_PRIVATE_H
#define MOONBUS_SPEC_SIM_PRIVATE_H

#include <stdatomic.h>

#include "app/config.h"
#include "base/sync.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/world.h"
#include "broker/broker_transport.h"
#include "bus/consume/intake.h"
#include "sim.h"

struct sim_settings {
    struct config *config; /* owned */
};

struct sim {
    struct world *world; /* owned */
    uint64_t seed;
    struct broker_server *server;          /* owned */
    struct spy *spies;                     /* owned; of each host one */
    struct broker_client *outside;         /* the broker's */
    struct broker_packet *came;            /* owned: what sim_take returned */
    int refusing, freezing, downs, delays; /* faults under way */
    struct mutex lock;                     /* closing, waiting */
    struct cond changed;
    bool closing; /* faults and messages to come do not wait any more */
    int waiting;  /* how many do */
    struct sim_host *hosts;
    int host_count;           /* so far */
    struct text notes, taken; /* taken: what the last sim_notes returned */
    const char *wire_notes;   /* the beginning of the subjects of sent messages that are noted */
    char error[9000];
};

/* A line; any fiber, and from outside. */
void sim_note(struct sim *sim, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Runs it on a fiber, for an hour at most. False: it does not end; sim->error tells. */
bool sim_call(struct sim *sim, const char *name, void *(*run)(void *), void *arg);
/* sim_wire.c */
void sim_wire_open(struct sim *sim);
/* What the host of this number connects with. Owned by the sim. */
const struct transport_maker *sim_transport(struct sim *sim, int host);
void sim_wire_free(struct sim *sim);
struct sim *sim_here(void);
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
