/* http_host - whose turn it is at each server. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "base/table.h"
#include "http/http_private.h"

static struct http_host *host_new(struct http *http, const char *origin)
{
    size_t len = strlen(origin);
    struct http_host *host = calloc(1, sizeof *host + len + 1);
    if (!host)
        return NULL;
    memcpy(host->origin, origin, len + 1);
    HASH_ADD_STR(http->hosts, origin, host);
    if (table_has(host))
        return host;
    free(host);
    return NULL;
}

static void note_waiting(struct http *http, int64_t running, int64_t waiting)
{
    mutex_lock(&http->lock);
    http->counts.running += (uint64_t)running;
    http->counts.waiting += (uint64_t)waiting;
    mutex_unlock(&http->lock);
}

/* Those who may go are made ready. The first to a server where nothing is under way goes ahead. */
static void move_up(struct http *http, struct http_host *host)
{
    while (host->running < atomic_load(&http->per_host) && !host->scout) {
        struct http_place *place = http_line_take(&host->line);
        if (!place)
            return;
        struct http_call *call = container_of(place, struct http_call, place);
        if (host->running == 0)
            host->scout = call;
        host->running++;
        call->ready = true;
        DL_APPEND2(http->ready, call, ready_prev, ready_next);
        note_waiting(http, 1, -1);
    }
}

bool http_host_enter(struct http_call *call)
{
    struct http *http = call->http;
    struct http_host *host;
    const char *unix_path = call->request.unix_path;
    const char *origin = unix_path ? unix_path : call->url.origin;
    HASH_FIND_STR(http->hosts, origin, host);
    if (!host)
        host = host_new(http, origin);
    if (!host)
        return false;
    call->host = host;
    call->phase = PHASE_LINE;
    http_line_add(&host->line, &call->place);
    note_waiting(http, 0, 1);
    move_up(http, host);
    return true;
}

void http_host_leave(struct http_call *call)
{
    struct http *http = call->http;
    struct http_host *host = call->host;
    if (!host)
        return;
    call->host = NULL;
    if (call->place.waits) {
        http_line_remove(&host->line, &call->place);
        note_waiting(http, 0, -1);
    } else {
        host->running--;
        note_waiting(http, -1, 0);
    }
    if (call->ready) {
        call->ready = false;
        DL_DELETE2(http->ready, call, ready_prev, ready_next);
    }
    if (host->scout == call)
        host->scout = NULL;
    move_up(http, host);
    if (host->running == 0 && host->line.count == 0) {
        HASH_DEL(http->hosts, host);
        free(host);
    }
}

void http_host_found(struct http_call *call)
{
    struct http_host *host = call->host;
    if (!host || host->scout != call)
        return;
    host->scout = NULL;
    move_up(call->http, host);
}
