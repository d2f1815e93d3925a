/* judge_server - judgements on what a server has: it was asked before, and these compare. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "judge/judge_look.h"
#include "judge/judge_table.h"

/* --- what it is too old for --- */

static const struct feature {
    const char *field; /* of a stream */
    int minor;         /* of the first nats-server 2.x that knows it */
} features[] = {
    {"compression", 10},
    {"first_seq", 10},
    {"metadata", 10},
    {"subject_transform", 10},
    {"consumer_limits", 10},
    {"allow_msg_ttl", 11},
    {"subject_delete_marker_ttl", 11},
    {"allow_atomic", 12},
    {"allow_msg_counter", 12},
    {"allow_msg_schedules", 12},
    {"persist_mode", 12},
    {"allow_batched", 14},
};

static void find_old(const struct judge_facts *facts, const struct judgement *self,
                     const struct judge_place *place, const char *what, int minor,
                     const char *instead, struct judge_findings *out)
{
    judge_find(out, self, self->severity, place, NULL,
               "%s needs nats-server 2.%d or newer, and this one is %d.%d%s: it is not served. "
               "Right: %s, or a newer server",
               what, minor, facts->server_major, facts->server_minor,
               facts->server_older ? " or older" : "", instead);
}

JUDGEMENT(old_server)
{
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        for (size_t k = 0; k < sizeof features / sizeof *features; k++) {
            const cJSON *field = json_field(stream->config, features[k].field);
            if (field && !cJSON_IsFalse(field) && !look_is_servers(stream) &&
                look_is_older(facts, features[k].minor))
                find_old(facts, self, &stream->place, features[k].field, features[k].minor,
                         "leave it out", out);
        }
    }
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind == JUDGE_CONSUME && handler->filter_count > 1 && look_is_older(facts, 10))
            find_old(facts, self, &handler->place, "a list of filters", 10,
                     "one filter with wildcards, or a durable for each", out);
        if (handler->needs && look_is_older(facts, handler->needs_minor))
            find_old(facts, self, &handler->place, handler->needs, handler->needs_minor,
                     "leave it out", out);
    }
}

JUDGEMENT(retries_not_parked)
{
    struct look_words words = {0};
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind == JUDGE_CONSUME && handler->park_after_ns > 0 &&
            look_is_older(facts, 12))
            judge_find(out, self, self->severity, &handler->place, NULL,
                       "backoff.park_after needs message schedules (nats-server 2.12 or newer), "
                       "and this one is %d.%d%s: retries after more than %s are delayed naks, "
                       "which count for max_ack_pending. Right: a newer server, or leave it out",
                       facts->server_major, facts->server_minor,
                       facts->server_older ? " or older" : "",
                       look_duration(&words, handler->park_after_ns));
    }
}

/* --- what is missing --- */

JUDGEMENT(missing_stream)
{
    for (int i = 0; i < facts->handler_count && facts->asked; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind == JUDGE_CONSUME && !look_stream(facts, handler->stream))
            judge_find(out, self, self->severity, &handler->place, NULL,
                       "there is no stream \"%s\", and no script states it: the handler is not "
                       "served. Right: js.stream { name = \"%s\", subjects = ... }, or create it "
                       "first",
                       handler->stream, handler->stream);
    }
}

JUDGEMENT(missing_durable)
{
    for (int i = 0; i < facts->handler_count && facts->asked; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind == JUDGE_CONSUME && handler->bind && !handler->config &&
            look_stream(facts, handler->stream))
            judge_find(out, self, self->severity, &handler->place, NULL,
                       "there is no durable \"%s\" of %s, and bind = true forbids to create it: "
                       "the handler is not served. Right: create it first, or drop bind",
                       handler->durable, handler->stream);
    }
}

/* --- what differs --- */

static void find_difference(const struct judgement *self, const struct judge_place *place,
                            const char *what, const char *differs, bool updates,
                            struct judge_findings *out)
{
    if (updates)
        judge_find(out, self, JUDGE_NOTE, place, NULL,
                   "%s has other settings on the server: %s. It will be updated", what, differs);
    else
        judge_find(out, self, self->severity, place, NULL,
                   "%s has other settings on the server: %s. It is not served. Right: state what "
                   "the server has, or allow update = true",
                   what, differs);
}

JUDGEMENT(stream_differs)
{
    char what[300];
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        if (!stream->differs)
            continue;
        snprintf(what, sizeof what, "stream %s", look_name(stream));
        find_difference(self, &stream->place, what, stream->differs,
                        stream->update == JUDGE_UPDATE_YES, out);
    }
}

JUDGEMENT(durable_differs)
{
    char what[300];
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || !handler->differs)
            continue;
        snprintf(what, sizeof what, "the durable %s", handler->durable);
        bool updates = handler->update == JUDGE_UPDATE_YES ||
                       (handler->own && handler->update == JUDGE_UPDATE_UNSTATED);
        find_difference(self, &handler->place, what, handler->differs, updates && !handler->bind,
                        out);
    }
}
