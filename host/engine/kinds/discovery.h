/* discovery - what asks for services is answered: $SRV.PING, .INFO and .STATS, each also for a
 * name, and for the name and the id of one process (ADR-32).
 *
 *   on_message (delivery thread) ─▶ the services that serve ─▶ JSON ─▶ publish connection
 *
 * By the host alone: no worker, no Lua. A service is found from its first statement that serves to
 * the stop of the last one. It keeps its id and the time of its start for as long as the process
 * lives, whatever comes and goes; what was counted of its endpoints is their handlers' (tally.h).
 *
 * A refused subscription is warned of once: the services serve all the same. Nothing is replied to
 * subjects that are the server's own.
 *
 * Any thread; its lock comes after the dispatch lock, and before those of tally books and links. */
#ifndef MOONBUS_ENGINE_KINDS_DISCOVERY_H
#define MOONBUS_ENGINE_KINDS_DISCOVERY_H

#include <stdint.h>

struct bus;
struct discovery;
struct err;
struct source;

/* The bus outlives it, but for its connections, which have stopped when it is freed. NULL: no
 * memory. */
struct discovery *discovery_new(struct bus *bus);
void discovery_free(struct discovery *discovery); /* NULL is allowed */

/* The source, of a service or an endpoint, serves: 0 or an error. */
int discovery_add(struct discovery *discovery, struct source *source, struct err *err);
/* It stops. One that was not added: no effect. */
void discovery_remove(struct discovery *discovery, struct source *source);
/* With the dispatch lock held: it has another registration now. */
void discovery_note(struct source *source);

/* What a script says of an endpoint that serves, as JSON: the `data` of its STATS from now on.
 * text: NULL: none. Any thread. */
void discovery_set_data(struct discovery *discovery, const char *service, const char *endpoint,
                        const char *text);

/* A service that is found. */
struct service_stat {
    char name[128], version[128], id[24];
    int64_t started_ns; /* wall clock */
    int endpoints;
};

/* Fills list with at most so many; returns how many there are. */
int discovery_list(struct discovery *discovery, struct service_stat *list, int most);

#endif
