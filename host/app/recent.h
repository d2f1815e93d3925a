/* recent - what went wrong lately, and what was reloaded: for the page, which may be opened when it
 * is over.
 *
 *   log (warnings, errors) ── recent_hear, any thread ─▶ a ring of lines ──▶ recent_json, main
 *   verdicts of reloads ──── recent_note_reload, main ─▶ a ring ───────────┘
 *
 * Bounded in number and in bytes. It has one lock, a leaf. */
#ifndef MOONBUS_APP_RECENT_H
#define MOONBUS_APP_RECENT_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;
struct recent;

/* NULL: no memory; allowed in all the others. Listens to the log from now on. */
struct recent *recent_new(void);
/* Does not listen any more. */
void recent_free(struct recent *recent);

/* How a reload ended: a sentence, as it was logged. */
void recent_note_reload(struct recent *recent, bool ok, const char *text);

/* {"events": [...], "reloads": [{"time", "ok", "text"}]}, the oldest first. Events are lines of the
 * log in its JSON form. NULL: no memory. The caller's. */
struct cJSON *recent_json(struct recent *recent);

#endif
