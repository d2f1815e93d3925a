/* admin_unserved - GET /unserved: the durables on the server that moonbus made and that nothing
 * serves any more.
 *
 *   a request ──▶ one search at a time, on a pool thread ──▶ the loop wakes: everybody who waits
 *                                                            for it gets its answer
 *
 * The request is suspended meanwhile. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "app/admin_private.h"
#include "base/container.h"
#include "base/value.h"
#include "bus/consume/unserved.h"

#define SEARCH_NS (10 * NS_PER_S)

struct unserved_search {
    struct pool_job job;
    struct admin *admin; /* not owned */
    struct unserved_list list;
    int code; /* 0, or what err tells */
    struct err err;
    bool running; /* the main thread's */
    atomic_bool done;
};

static void run(struct pool_job *job)
{
    struct unserved_search *search = container_of(job, struct unserved_search, job);
    struct app *app = search->admin->app;
    search->code = unserved_find(app->bus->jsapi, clock_now_ns() + (uint64_t)SEARCH_NS,
                                 &search->list, &search->err);
    atomic_store(&search->done, true);
    uv_async_send(&app->wake);
}

/* A handler of this very host may be too busy to ask for messages. */
static bool is_served(const struct engine_snapshot *snapshot, const struct unserved *item)
{
    for (int i = 0; snapshot && i < snapshot->script_count; i++) {
        const struct script_stat *script = &snapshot->scripts[i];
        for (int j = 0; j < script->tally_count; j++) {
            const struct tally_stat *tally = &script->tallies[j];
            if (tally->is_live && tally->durable && tally->stream &&
                strcmp(tally->durable, item->durable) == 0 &&
                strcmp(tally->stream, item->stream) == 0)
                return true;
        }
    }
    return false;
}

static cJSON *item_json(const struct unserved *item)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "stream", item->stream);
    cJSON_AddStringToObject(object, "durable", item->durable);
    cJSON_AddStringToObject(object, "script", item->script);
    if (item->created[0])
        cJSON_AddStringToObject(object, "created", item->created);
    if (item->last_active[0])
        cJSON_AddStringToObject(object, "last_active", item->last_active);
    cJSON_AddNumberToObject(object, "pending", (double)item->pending);
    cJSON_AddNumberToObject(object, "ack_pending", (double)item->ack_pending);
    return object;
}

static cJSON *answer_json(const struct unserved_search *search)
{
    cJSON *body = cJSON_CreateObject();
    struct engine_snapshot *snapshot = engine_snapshot(search->admin->app->engine);
    cJSON_AddBoolToObject(body, "ok", search->code == 0);
    if (search->code)
        cJSON_AddStringToObject(body, "error", search->err.message);
    cJSON *list = cJSON_AddArrayToObject(body, "unserved");
    for (int i = 0; i < search->list.count; i++) {
        if (!is_served(snapshot, &search->list.items[i]))
            cJSON_AddItemToArray(list, item_json(&search->list.items[i]));
    }
    cJSON_AddBoolToObject(body, "cut", search->list.cut);
    engine_snapshot_free(snapshot);
    return body;
}

enum MHD_Result admin_unserved(struct admin *admin, struct visit *visit,
                               struct MHD_Connection *connection)
{
    struct app *app = admin->app;
    if (!app->bus || !app->ready || atomic_load(&app->stopping))
        return admin_refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                            "the host does not serve: it starts, or stops");
    if (!admin->search)
        admin->search = calloc(1, sizeof *admin->search);
    struct unserved_search *search = admin->search;
    if (!search)
        return MHD_NO;
    admin_suspend(visit, connection, WAIT_UNSERVED);
    if (search->running)
        return MHD_YES;
    *search = (struct unserved_search){.admin = admin, .running = true, .job.run = run};
    pool_submit(app->pool, &search->job);
    return MHD_YES;
}

void admin_unserved_look(struct admin *admin)
{
    struct unserved_search *search = admin ? admin->search : NULL;
    if (!search || !search->running || !atomic_load(&search->done))
        return;
    cJSON *body = answer_json(search);
    search->running = false;
    unserved_clear(&search->list);
    admin_resume_all(admin, WAIT_UNSERVED,
                     search->code ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, body);
    cJSON_Delete(body);
    admin_run_soon(admin);
}

/* The search may go on, for nobody, until the pool has ended. */
void admin_unserved_close(struct admin *admin)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", false);
    cJSON_AddStringToObject(body, "error", "the host is stopping");
    admin_resume_all(admin, WAIT_UNSERVED, MHD_HTTP_SERVICE_UNAVAILABLE, body);
    cJSON_Delete(body);
}

void admin_unserved_free(struct admin *admin)
{
    if (admin->search)
        unserved_clear(&admin->search->list);
    free(admin->search);
}
