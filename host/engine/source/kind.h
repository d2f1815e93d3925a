/* kind - what can be registered: a stream, a subscription, a durable, a timer, a hook. Each is a
 * row of engine/kinds/kinds.c, and a file there. A function that a kind has no use for is NULL.
 *
 *   read ─▶ declare ─▶ prepare, or change ─▶ start ─▶ stop ─▶ clear
 *   load     └────── a rollout: pool threads, may block ──────┘
 *
 * until_ns, everywhere: so long a connection is waited for; 0: as long as it takes. */
#ifndef MOONBUS_ENGINE_SOURCE_KIND_H
#define MOONBUS_ENGINE_SOURCE_KIND_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/source/source_state.h"

struct err;
struct ordered_stat;
struct registration;
struct scripts;
struct source;

struct kind {
    const char *name;    /* as lua/moonbus calls it */
    const char *binding; /* as its user does, for messages */
    enum source_brings brings;
    bool declared; /* it has no handler and no source: it is made sure of, and that is all */
    bool repeats;  /* a run of it that was lost is not owed: the next one comes anyway */

    /* While the script loads: fills the registration from the table at `spec`, which
     * moonbus.options has checked; what it holds is the registration's from the start. NULL, or a
     * sentence: what is wrong with the table. Raises when there is no memory. */
    const char *(*read)(lua_State *L, int spec, struct registration *registration);

    /* Would a handler of the one get what is meant for the other? Of two scripts, one is refused.
     */
    bool (*is_rival)(const struct registration *mine, const struct registration *other);
    /* Why not, and what would be right: a sentence for err, behind what it is called. */
    void (*tell_rival)(const struct registration *mine, const struct registration *other,
                       bool same_script, struct err *err);
    /* Is what `then` brings the same, so that its source goes on for `now`? */
    bool (*continues)(const struct registration *now, const struct registration *then);

    /* One try to make sure of what others may need, before all else. */
    int (*declare)(struct scripts *scripts, const struct registration *registration,
                   uint64_t deadline_ns, struct err *err);
    /* Do both declare the same? */
    bool (*is_declared)(const struct registration *now, const struct registration *then);

    /* Makes sure of what a new source needs. On an error the source is freed, unstarted. */
    int (*prepare)(struct source *source, bool may_update, uint64_t until_ns, struct err *err);
    /* A source that goes on takes over what its heir states; *changed: the server was told. And
     * back to what it stated before, as far as the server lets us. */
    int (*change)(struct source *source, uint64_t until_ns, bool *changed, struct err *err);
    void (*change_back)(struct source *source);

    /* It is SERVING: has it bring work. An error: it is STOPPED. With `starting` held. */
    int (*start)(struct source *source, struct err *err);
    /* It is STOPPING: no new messages; then on_drained(source), on any thread. With `starting`
     * held. For kinds that bring messages, deliveries or nothing. */
    void (*stop)(struct source *source, void (*on_drained)(void *source));
    /* With the dispatch lock held: a run that is owed begins. What its function is given: a time in
     * seconds since 1970. NULL: it is given nothing. */
    int64_t (*take)(struct source *source);
    /* With the dispatch lock held: it serves for its heir from now on. */
    void (*on_hand_over)(struct source *source);
    /* How far the ordered consumer is that it reads a stream by. False: it has none (yet). With
     * the dispatch lock held. */
    bool (*reading)(const struct source *source, struct ordered_stat *stat);
    /* Frees what prepare and start have made. */
    void (*clear)(struct source *source);
};

/* Does it have handlers? */
static inline bool kind_handles(const struct kind *kind)
{
    return !kind->declared && kind->brings != SOURCE_BRINGS_NOTHING;
}

#endif
