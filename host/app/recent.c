/* recent - two rings, and the log's listener. */
#include "app/recent.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"

#define EVENTS_KEPT 50
#define RELOADS_KEPT 30
/* Of one event; of a longer one the texts are cut. */
#define EVENT_BYTES_MOST 16384
#define TEXT_BYTES_MOST 4000

struct past_reload {
    char *text; /* owned */
    int64_t wall_ns;
    bool ok;
};

struct recent {
    struct mutex lock;         /* guards all of it; a leaf */
    char *events[EVENTS_KEPT]; /* owned: JSON objects */
    struct past_reload reloads[RELOADS_KEPT];
    unsigned event_count, reload_count; /* so far */
};

static void cut_text(cJSON *object, const char *key)
{
    cJSON *item = cJSON_GetObjectItem(object, key);
    char *text = cJSON_GetStringValue(item);
    size_t len = TEXT_BYTES_MOST;
    if (!text || strlen(text) < len + sizeof "...")
        return;
    while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
        len--; /* not within a character */
    memcpy(&text[len], "...", sizeof "...");
}

/* Owned; NULL: no memory. */
static char *cut_event(const char *line, size_t len)
{
    cJSON *object = cJSON_ParseWithLength(line, len);
    cut_text(object, "msg");
    cut_text(object, "traceback");
    cJSON_DeleteItemFromObject(object, "fields");
    char *text = object ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    return text;
}

static void recent_hear(void *owner, const char *line, size_t len)
{
    struct recent *recent = owner;
    char *copy = len > EVENT_BYTES_MOST ? cut_event(line, len) : strndup(line, len);
    if (!copy)
        return;
    mutex_lock(&recent->lock);
    char **place = &recent->events[recent->event_count++ % EVENTS_KEPT];
    char *old = *place;
    *place = copy;
    mutex_unlock(&recent->lock);
    free(old);
}

struct recent *recent_new(void)
{
    struct recent *recent = calloc(1, sizeof *recent);
    if (!recent)
        return NULL;
    mutex_init(&recent->lock);
    log_listen(LOG_WARN, recent_hear, recent);
    return recent;
}

void recent_free(struct recent *recent)
{
    if (!recent)
        return;
    log_listen(LOG_OFF, NULL, NULL);
    for (int i = 0; i < EVENTS_KEPT; i++)
        free(recent->events[i]);
    for (int i = 0; i < RELOADS_KEPT; i++)
        free(recent->reloads[i].text);
    mutex_destroy(&recent->lock);
    free(recent);
}

void recent_note_reload(struct recent *recent, bool ok, const char *text)
{
    char *copy = recent ? strdup(text) : NULL;
    if (!copy)
        return;
    mutex_lock(&recent->lock);
    struct past_reload *place = &recent->reloads[recent->reload_count++ % RELOADS_KEPT];
    free(place->text);
    *place = (struct past_reload){.text = copy, .wall_ns = clock_wall_ns(), .ok = ok};
    mutex_unlock(&recent->lock);
}

static cJSON *events_json(const struct recent *recent)
{
    cJSON *list = cJSON_CreateArray();
    for (unsigned i = 0; i < EVENTS_KEPT; i++) {
        const char *event = recent->events[(recent->event_count + i) % EVENTS_KEPT];
        if (event)
            cJSON_AddItemToArray(list, cJSON_CreateRaw(event));
    }
    return list;
}

static cJSON *reload_json(const struct past_reload *reload)
{
    cJSON *object = cJSON_CreateObject();
    char when[40];
    log_time(reload->wall_ns, when, sizeof when);
    cJSON_AddStringToObject(object, "time", when);
    cJSON_AddBoolToObject(object, "ok", reload->ok);
    cJSON_AddStringToObject(object, "text", reload->text);
    return object;
}

static cJSON *reloads_json(const struct recent *recent)
{
    cJSON *list = cJSON_CreateArray();
    for (unsigned i = 0; i < RELOADS_KEPT; i++) {
        const struct past_reload *reload =
            &recent->reloads[(recent->reload_count + i) % RELOADS_KEPT];
        if (reload->text)
            cJSON_AddItemToArray(list, reload_json(reload));
    }
    return list;
}

cJSON *recent_json(struct recent *recent)
{
    cJSON *object = cJSON_CreateObject();
    if (!recent)
        return object;
    mutex_lock(&recent->lock);
    cJSON_AddItemToObject(object, "events", events_json(recent));
    cJSON_AddItemToObject(object, "reloads", reloads_json(recent));
    mutex_unlock(&recent->lock);
    return object;
}
