/* rollout - new versions of scripts begin to serve, all of them or none. What can be refused is
 * refused before anything has changed for a message:
 *
 *   accept ─▶ streams ─▶ consumers that go on, new sources ─▶ required "start" hooks ─▶ switch
 *     │          │                       │                              │               │
 *     └──────────┴───────────────────────┴──────────────────────────────┘     the old ones retire
 *       refused: what was changed on the server is changed back               what is new starts
 *
 * Blocks: pool threads only. */
#ifndef MOONBUS_ENGINE_SERVE_ROLLOUT_H
#define MOONBUS_ENGINE_SERVE_ROLLOUT_H

struct err;
struct generation;
struct script;
struct scripts;

enum rollout_kind {
    ROLLOUT_SERVE,  /* what was loaded first begins to serve */
    ROLLOUT_SWITCH, /* the next version takes over; also of a script that is not served */
    ROLLOUT_UNLOAD, /* nothing is served any more: what runs finishes, "stop" runs */
};

/* What one script is to be. */
struct rollout {
    enum rollout_kind kind;
    struct script *script;
    struct generation *generation; /* SWITCH: of engine_build; NULL once it has taken over */
};

/* How long a rollout waits for a server that is not there. */
enum rollout_patience {
    ROLLOUT_HASTY,   /* not at all: others want theirs */
    ROLLOUT_WAITS,   /* for some seconds */
    ROLLOUT_PATIENT, /* until engine_drain */
};

/* Makes sure of streams, consumers and dead-letter subjects of all items, then switches all at one
 * moment: subscribes, pulls, starts timers, runs "start". An error means that everything runs on as
 * it did; *culprit: the place of the item that was refused. One at a time. */
int rollout_run(struct scripts *scripts, struct rollout *items, int count,
                enum rollout_patience patience, int *culprit, struct err *err);

#endif
