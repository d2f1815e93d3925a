/* admin - the host's HTTP endpoint: health, readiness, status; reload and drain.
 *
 *   libmicrohttpd's epoll ─▶ the main loop ─▶ one request at a time, answered at once; but a POST
 *   of /reload or /drain waits (suspended) for its verdict
 *
 * Slow and hostile clients cost a connection of a few, for a bounded time; nothing else. Owner: the
 * app; all functions on the main thread. NULL is no endpoint, and allowed everywhere. */
#ifndef MOONBUS_APP_ADMIN_H
#define MOONBUS_APP_ADMIN_H

#include <stdbool.h>

#include "base/err.h"

struct admin;
struct app;

/* Listens as the config says. NULL with err->code 0: it is off; or an error: the address is taken,
 * or none of ours. */
struct admin *admin_open(struct app *app, struct err *err);

/* A script was loaded, refused or unloaded; text: as in the log. For who waits for a reload. */
void admin_note(struct admin *admin, const char *script, bool refused, unsigned generation,
                double elapsed_ms, const char *text);

/* Nothing is to be reloaded any more: the verdict for who waits. stopping: there will be none. */
/* A config was read that is good: what was refused before is mended. Before its lines. */
void admin_config_read(struct admin *admin);
/* A line of what a config that was read anew changes, or why it was refused. */
void admin_note_config(struct admin *admin, bool refused, const char *path, const char *line);
void admin_settled(struct admin *admin, bool stopping);

/* The end: who waits for the drain is told how many handlers were unfinished. Sends what is to be
 * sent, briefly, and closes its handles. */
void admin_close(struct admin *admin, int unfinished);
/* After the loop and the clock have ended. */
void admin_free(struct admin *admin);

/* The clock's thread has done something lately. */
bool admin_clock_lives(const struct admin *admin);

#endif
