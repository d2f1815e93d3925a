/* unserved - all streams' consumers, page by page. */
#include "bus/consume/unserved.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bus/consume/consumer.h"
#include "bus/request/jsapi.h"

/* Of one stream: a server gives 256 on a page. */
#define PAGES_MOST 4

struct search {
    struct jsapi *jsapi; /* not owned */
    uint64_t deadline_ns;
    struct unserved_list *list; /* not owned */
};

/* The page that begins at `offset`. NULL, with err. */
static cJSON *read_page(const struct search *search, const char *operation, int offset,
                        struct err *err)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "offset", offset);
    cJSON *reply = jsapi_wait(search->jsapi, operation, request, search->deadline_ns, NULL, err);
    cJSON_Delete(request);
    return reply;
}

static void clear_item(struct unserved *item)
{
    free(item->stream);
    free(item->durable);
    free(item->script);
}

static void add(struct unserved_list *list, const cJSON *info, const char *script)
{
    if (list->count == UNSERVED_MOST) {
        list->cut = true;
        return;
    }
    struct unserved item = {.stream = strdup(json_text_or(info, "stream_name", "")),
                            .durable = strdup(json_text_or(info, "name", "")),
                            .script = strdup(script),
                            .pending = json_unsigned(info, "num_pending", 0),
                            .ack_pending = json_unsigned(info, "num_ack_pending", 0)};
    snprintf(item.created, sizeof item.created, "%s", json_text_or(info, "created", ""));
    snprintf(item.last_active, sizeof item.last_active, "%s",
             json_text_or(json_field(info, "delivered"), "last_active", ""));
    if (item.stream && item.durable && item.script) {
        list->items[list->count++] = item;
        return;
    }
    list->cut = true;
    clear_item(&item);
}

static void look_at(struct unserved_list *list, const cJSON *info)
{
    const char *script = consumer_config_owner(json_field(info, "config"));
    if (script && json_unsigned(info, "num_waiting", 0) == 0)
        add(list, info, script);
}

static int search_stream(const struct search *search, const char *stream, struct err *err)
{
    char operation[300];
    int seen = 0, total = 1;
    snprintf(operation, sizeof operation, "CONSUMER.LIST.%.255s", stream);
    for (int page = 0; seen < total && page < PAGES_MOST; page++) {
        cJSON *reply = read_page(search, operation, seen, err);
        if (!reply) /* it may have gone since it was listed */
            return err->code == ERR_NOT_FOUND ? 0 : (int)err->code;
        const cJSON *consumers = json_field(reply, "consumers"), *info;
        cJSON_ArrayForEach(info, consumers)
            look_at(search->list, info);
        int count = cJSON_GetArraySize(consumers);
        seen += count;
        total = count > 0 ? json_int(reply, "total", 0) : seen;
        cJSON_Delete(reply);
    }
    search->list->cut |= seen < total;
    return 0;
}

int unserved_find(struct jsapi *jsapi, uint64_t deadline_ns, struct unserved_list *list,
                  struct err *err)
{
    struct search search = {jsapi, deadline_ns, list};
    int seen = 0, total = 1, code = 0;
    while (!code && seen < total && seen < UNSERVED_STREAMS_MOST) {
        cJSON *reply = read_page(&search, "STREAM.NAMES", seen, err);
        if (!reply)
            return err->code;
        const cJSON *streams = json_field(reply, "streams"), *name;
        int count = 0;
        cJSON_ArrayForEach(name, streams) {
            if (code || seen + count >= UNSERVED_STREAMS_MOST)
                break;
            code = cJSON_IsString(name) ? search_stream(&search, name->valuestring, err) : 0;
            count++;
        }
        seen += count;
        total = count > 0 ? json_int(reply, "total", 0) : seen;
        cJSON_Delete(reply);
    }
    list->cut |= seen < total;
    return code;
}

void unserved_clear(struct unserved_list *list)
{
    for (int i = 0; i < list->count; i++)
        clear_item(&list->items[i]);
    list->count = 0;
}
