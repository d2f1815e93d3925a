/* change - what is to be done about one handler file: a pure machine. It is told what was seen of
 * the file, and how work on it ended; it says what work comes next. No clock, no I/O, no lock.
 *
 *                 asked                begin_load              loaded: good
 *    ┌─▶ SETTLED ───────▶ WANTED ──────────────▶ LOADING ─────────────────▶ LOADED
 *    │     │  ▲ ▲           ▲ ▲                    │ │                       │ │ │
 *    │     │  │ │           │ └─ asked meanwhile ──┘ │ loaded: refused       │ │ │ begin_rollout
 *    │     │  │ └───────────┼────────────────────────┘                       │ │ │
 *    │     │  └─────────────┼──────────────────── held back ─────────────────┘ │ │
 *    │     │                └──────────────────── asked ───────────────────────┘ ▼
 *    │     │ lost (from any state)                                           ROLLING
 *    │     └──────────────────────▶ LEAVING ────────── begin_rollout ───────────▶│
 *    └──────────────────────────────────────────── rolled_out ───────────────────┘
 *
 * What holds:
 *   LOADING     a load is under way, and no candidate is there
 *   LOADED      a candidate is there: a version that could serve
 *   ROLLING     the pool has the candidate, or unloads the script
 *   else        neither
 * A change is never lost: whoever asks while work is under way has it begun anew after that, as the
 * work may have read what was there before. A load is stopped for it, so that one without an end
 * holds up nobody who mends it.
 *
 * `together` marks the files of one rollout that is all or none. They are rolled out when each of
 * them is LOADED or LEAVING, and held back when one was refused; the owner sees to that
 * (changes_*). Owner: the main thread. */
#ifndef MOONBUS_APP_CHANGE_H
#define MOONBUS_APP_CHANGE_H

#include <stdbool.h>

enum change_state {
    CHANGE_SETTLED,
    CHANGE_WANTED,
    CHANGE_LOADING,
    CHANGE_LOADED,
    CHANGE_LEAVING,
    CHANGE_ROLLING,
};

/* Is the file where it was? One that goes may be back in a moment: editors and deployments remove
 * and write anew. Nothing of it is loaded meanwhile. */
enum change_presence {
    CHANGE_HERE,
    CHANGE_MISSING, /* since a moment */
    CHANGE_LOST,    /* for good, as far as can be told */
};

/* What the last work on it came to. */
enum change_verdict {
    CHANGE_NEW,      /* there was none */
    CHANGE_LIVE,     /* it loaded; it serves */
    CHANGE_UNLOADED, /* it serves no more */
    CHANGE_REFUSED,  /* by its own fault */
    CHANGE_WAITS,    /* for want of a server: tried again when that is back */
    CHANGE_TAKEN,    /* another script handles its durable: tried again when another has changed */
    CHANGE_HELD,     /* another one of its rollout was refused */
};

struct change {
    enum change_state state;
    enum change_presence presence;
    enum change_verdict verdict;
    bool known;     /* a version of it was loaded, and has not been unloaded since */
    bool together;  /* all or none, with the others of which this holds */
    bool last;      /* LOADED: what it wants is taken; after all others, once more */
    bool by_itself; /* nobody asked for this try: what it complains of has been said */
    bool again;     /* LOADING, ROLLING: asked for meanwhile */
    bool leave;     /* LOADING, ROLLING: lost meanwhile */
    bool owed; /* LOST: a change was not loaded, or not rolled out; begun again when it is back */
    bool unloads; /* ROLLING: the script goes */
};

/* What the owner shall do now. */
struct change_action {
    bool stop;    /* the load that is under way: it is for nobody */
    bool discard; /* the candidate */
    bool tell;    /* somebody is to hear how it ended */
};

/* wanted: it is to be loaded; else it has been, or will be by its owner (change_started). */
void change_init(struct change *change, bool wanted);
/* What the start of the host made of it: loaded and served, or why not. */
void change_started(struct change *change, enum change_verdict verdict);

/* Its content is another one, or it is to be tried once more. together: with the others of this
 * request. by_itself: nobody asked. */
struct change_action change_asked(struct change *change, bool together, bool by_itself);
/* What is to be done about it anyway is done with the others of a request. */
void change_join(struct change *change);

/* The file is not there; it is there again. True: that is news. */
bool change_missing(struct change *change);
bool change_back(struct change *change);
/* It has been missing for too long. unload: its script goes; else it serves on. */
struct change_action change_lost(struct change *change, bool unload);

void change_begin_load(struct change *change);
/* CHANGE_LIVE: the candidate is there. */
struct change_action change_loaded(struct change *change, enum change_verdict verdict);

void change_begin_rollout(struct change *change);
/* The pool is done. On refusal the candidate is still there. */
struct change_action change_rolled_out(struct change *change, enum change_verdict verdict);
/* Instead, when it was refused for what may become free: it keeps its candidate, for later. */
struct change_action change_put_off(struct change *change);
/* One of its rollout was refused: it is held back. */
struct change_action change_hold(struct change *change);

/* Another script has changed: what this one wants may be free. The server is back. */
void change_freed(struct change *change);
void change_connected(struct change *change);

/* Questions. */
bool change_may_load(const struct change *change);
bool change_may_roll_out(const struct change *change); /* its turn may be later, if it is `last` */
bool change_works(const struct change *change);        /* is anything to be done, or under way? */
bool change_fails(const struct change *change);        /* may any other change mend it? */
bool change_leaves(const struct change *change);  /* is its script on its way out, as it seems? */
bool change_is_over(const struct change *change); /* it is lost, and no version of it is left */

#endif
