/* admin - the host's HTTP endpoint: health, readiness, status, metrics; reload and drain.
 *
 *   libmicrohttpd's epoll ─▶ the main loop ─▶ one request at a time, answered at once, except a
 *   POST of /reload or /drain: that is suspended until its verdict is there
 *
 * A slow or hostile client costs one of a few connections, for a bounded time, and nothing else.
 * Owner: the app; all functions on the main thread. NULL means no endpoint, and is allowed
 * everywhere. */
#ifndef MOONBUS_APP_ADMIN_H
#define MOONBUS_APP_ADMIN_H

#include <stdbool.h>

#include "base/err.h"

struct admin;
struct app;

/* Listens as the config says. NULL with err->code 0: it is off. NULL with an error: the address is
 * taken, or is not one of this machine's. */
struct admin *admin_open(struct app *app, struct err *err);

/* A script was loaded, refused or unloaded: for requests that wait for a reload. text: as logged.
 */
void admin_note(struct admin *admin, const char *script, bool refused, unsigned generation,
                double elapsed_ms, const char *text);

/* A good config was read: what was refused before is mended. Comes before its lines. */
void admin_config_read(struct admin *admin);
/* One line of what a newly read config changes, or why it was refused. */
void admin_note_config(struct admin *admin, bool refused, const char *path, const char *line);
/* Nothing is left to reload: requests that wait get their verdict. stopping: there will be none. */
void admin_settled(struct admin *admin, bool stopping);

/* The loop has been woken: a search for durables may have ended. */
void admin_unserved_look(struct admin *admin);

/* The end: requests that wait for the drain hear how many handlers were unfinished. Takes a moment
 * to send that, and closes its handles. */
void admin_close(struct admin *admin, int unfinished);
/* After the loop and the clock have ended. */
void admin_free(struct admin *admin);

#endif
