/* mind - the part of `moonbus tune` that thinks: lua/moonbus/tune.lua, in a Lua state of its own.
 * It says which round is played next, and what follows from what was measured. The main thread's.
 */
#ifndef MOONBUS_CLI_TUNE_MIND_H
#define MOONBUS_CLI_TUNE_MIND_H

#include "base/err.h"

struct cJSON;
struct mind;

/* NULL with err. */
struct mind *mind_new(struct err *err);
void mind_free(struct mind *mind); /* NULL is allowed */

/* Calls "open", "next" or "report" with what it wants (taken over), and gives the answer, the
 * caller's; NULL with err. */
struct cJSON *mind_call(struct mind *mind, const char *what, struct cJSON *asked, struct err *err);

#endif
