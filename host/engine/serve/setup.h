/* setup - what a version of a script needs of the server, made sure of: its streams, consumers and
 * dead-letter subjects. Nothing is served by it yet. Blocks: pool threads only, with the scripts'
 * `changing` held.
 *
 * until_ns, everywhere: so long a connection is waited for; 0: as long as it takes. */
#ifndef MOONBUS_ENGINE_SERVE_SETUP_H
#define MOONBUS_ENGINE_SERVE_SETUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/value.h"

struct err;
struct generation;
struct registration;
struct script;
struct scripts;
struct source;

/* A reload waits so long for its server: what it replaces serves on, and others want theirs. */
#define SETUP_RELOAD_NS (5 * NS_PER_S)
/* One try at the server; between tries we look whether the host is stopping. */
#define SETUP_TRY_NS (2 * NS_PER_S)

/* Can the server do what the registrations of a generation need? */
int setup_require(struct generation *generation, uint64_t until_ns, struct err *err);

/* What the registrations of a generation declare; bare: those that state nothing but a name, which
 * come after what states settings, of all scripts: else they would create it without these. live:
 * what it is to replace, whose own are taken to be there; NULL: nothing. */
int setup_declare(struct generation *generation, const struct generation *live, bool bare,
                  uint64_t until_ns, struct err *err);

/* Makes sources for the registrations of a generation that take over none; all or none. */
int setup_sources(struct script *script, struct generation *generation, bool may_update,
                  uint64_t until_ns, struct err *err);
/* Frees those that have not started. */
void setup_free_unstarted(struct script *script);

/* A source that goes on takes over what its heir states; *changed: the server was told. */
int setup_change(struct source *source, uint64_t until_ns, bool *changed, struct err *err);

/* --- for the kinds --- */

/* Runs step until it has an answer that waiting cannot change. Waits for a connection until
 * until_ns. */
int setup_patiently(struct scripts *scripts, uint64_t until_ns,
                    int (*step)(void *argument, uint64_t deadline_ns, struct err *err),
                    void *argument, struct err *err);
/* Does what the script states win over what the server has? */
bool setup_stated_wins(const struct scripts *scripts, const struct registration *registration);

#endif
