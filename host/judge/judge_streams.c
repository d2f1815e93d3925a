/* judge_streams - judgements on streams, and on handlers that get in each other's way. */
#include <cjson/cJSON.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "base/value.h"
#include "judge/judge_look.h"
#include "judge/judge_table.h"

JUDGEMENT(registers_nothing)
{
    const struct judge_place nowhere = {0};
    if (facts->no_scripts)
        judge_find(out, self, self->severity, &nowhere, NULL,
                   "there are no scripts (*.lua) where they are looked for. Right: a PATH, or "
                   "handlers = { ... } in moonbus.lua");
    for (int i = 0; i < facts->script_count; i++) {
        const struct judge_script *script = &facts->scripts[i];
        const struct judge_place place = {.script = script->name};
        if (script->registrations == 0)
            judge_find(out, self, self->severity, &place, NULL,
                       "registers nothing. Right: a handler; or, for a module, a place in lib/");
    }
}

/* --- two handlers --- */

/* Calls visit for each pair of handlers of one kind; the later one comes first. */
static void each_pair(const struct judge_facts *facts, enum judge_kind kind,
                      const struct judgement *self, struct judge_findings *out,
                      bool (*visit)(const struct judge_facts *facts,
                                    const struct judge_handler *later,
                                    const struct judge_handler *earlier,
                                    const struct judgement *self, struct judge_findings *out))
{
    for (int i = 0; i < facts->handler_count; i++) {
        bool found = facts->handlers[i].kind != kind;
        for (int k = 0; k < i && !found; k++)
            found = facts->handlers[k].kind == kind &&
                    visit(facts, &facts->handlers[i], &facts->handlers[k], self, out);
    }
}

static bool is_one_durable(const struct judge_handler *a, const struct judge_handler *b)
{
    return strcmp(a->stream, b->stream) == 0 && strcmp(a->durable, b->durable) == 0;
}

static bool find_shared(const struct judge_facts *facts, const struct judge_handler *later,
                        const struct judge_handler *earlier, const struct judgement *self,
                        struct judge_findings *out)
{
    (void)facts;
    if (!is_one_durable(later, earlier))
        return false;
    judge_find(out, self, self->severity, &later->place, &earlier->place,
               "the durable \"%s\" has a handler in another script already, and each would get "
               "some of the messages. Right: a durable of its own",
               later->durable);
    return true;
}

JUDGEMENT(shared_durable)
{
    each_pair(facts, JUDGE_CONSUME, self, out, find_shared);
}

/* In different queues each is asked once, as is usual. */
static bool find_twin(const struct judge_facts *facts, const struct judge_handler *later,
                      const struct judge_handler *earlier, const struct judgement *self,
                      struct judge_findings *out)
{
    (void)facts;
    bool apart = !later->queue && !earlier->queue && (later->looks_on || earlier->looks_on);
    if (apart || strcmp(later->subject, earlier->subject) != 0 ||
        !look_same(later->queue, earlier->queue))
        return false;
    const struct judge_place *other = &earlier->place;
    judge_find(
        out, self, self->severity, &later->place, other,
        later->queue ? "%s:%d handles this subject in the same queue: each message goes to one of "
                       "the two, at random. Right: queues or subjects of their own"
                     : "%s:%d handles this subject, too: both get each message, and a requester "
                       "gets whichever reply comes first. %s",
        other->file, other->line,
        later->is_endpoint && earlier->is_endpoint ? "Right: subjects of their own"
                                                   : "If one only looks on, state reply = false");
    return true;
}

JUDGEMENT(same_subject_twice)
{
    each_pair(facts, JUDGE_SUBSCRIBE, self, out, find_twin);
}

static bool filters_overlap(const struct judge_handler *a, const struct judge_handler *b)
{
    for (int i = 0; i < a->filter_count; i++) {
        if (look_filters_take(b, a->filters[i]))
            return true;
    }
    return a->filter_count == 0;
}

static bool find_overlap(const struct judge_facts *facts, const struct judge_handler *later,
                         const struct judge_handler *earlier, const struct judgement *self,
                         struct judge_findings *out)
{
    if (strcmp(later->stream, earlier->stream) != 0 || is_one_durable(later, earlier))
        return false;
    const struct judge_stream *stream = look_stream(facts, later->stream);
    if (!stream || !look_is_work_queue(stream) || !filters_overlap(later, earlier))
        return false;
    judge_find(out, self, self->severity, &later->place, &earlier->place,
               "%s is a work queue, where each message has one consumer: the server refuses this "
               "durable, whose filter overlaps that of \"%s\". Right: filters that share no "
               "subject, or retention = \"limits\"",
               later->stream, earlier->durable);
    return true;
}

JUDGEMENT(overlapping_filters)
{
    each_pair(facts, JUDGE_CONSUME, self, out, find_overlap);
}

/* --- a handler and a stream --- */

JUDGEMENT(listens_where_stored)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream = handler->kind == JUDGE_SUBSCRIBE && !handler->looks_on
                                                ? look_stream_of(facts, handler->subject)
                                                : NULL;
        if (!stream || json_true(stream->config, "no_ack"))
            continue;
        judge_find(out, self, self->severity, &handler->place, &stream->place,
                   "the stream %s stores these messages, and their publisher waits for the "
                   "stream's confirmation: a reply of this handler, or an error, may arrive in its "
                   "place. %s",
                   look_name(stream),
                   handler->is_endpoint ? "Right: a subject of its own for the endpoint"
                                        : "If the handler only looks on, state reply = false");
    }
}

/* What it holds comes from elsewhere, or is stored under other names. */
static bool has_subjects_of_others(const struct judge_stream *stream)
{
    static const char *const fields[] = {"mirror", "sources", "subject_transform"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const cJSON *field = json_field(stream->config, fields[i]);
        if (field && !cJSON_IsNull(field))
            return true;
    }
    return false;
}

static void list_subjects(const struct judge_stream *stream, struct text *out)
{
    const cJSON *subjects = json_field(stream->config, "subjects"), *each;
    if (cJSON_GetArraySize(subjects) == 0)
        text_printf(out, "\"%s\"", look_name(stream));
    cJSON_ArrayForEach(each, subjects)
        text_printf(out, "%s\"%s\"", out->len ? ", " : "", cJSON_GetStringValue(each));
}

static void find_idle(const struct judge_handler *handler, const char *filter,
                      const struct judge_stream *stream, const struct judgement *self,
                      struct judge_findings *out)
{
    struct text subjects;
    text_init(&subjects);
    list_subjects(stream, &subjects);
    judge_find(out, self, self->severity, &handler->place, &stream->place,
               "the stream %s takes nothing that fits the filter \"%s\": no message ever comes "
               "by it, and some servers refuse it. Right: a filter within %s, or this subject in "
               "the stream, too",
               handler->stream, filter, subjects.failed ? "its subjects" : subjects.bytes);
    text_clear(&subjects);
}

JUDGEMENT(filter_takes_nothing)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream =
            handler->kind == JUDGE_CONSUME ? look_stream(facts, handler->stream) : NULL;
        if (!stream || has_subjects_of_others(stream))
            continue;
        for (int k = 0; k < handler->filter_count; k++) {
            if (!look_stores(stream, handler->filters[k]))
                find_idle(handler, handler->filters[k], stream, self, out);
        }
    }
}

JUDGEMENT(late_start_of_work_queue)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream =
            handler->kind == JUDGE_CONSUME ? look_stream(facts, handler->stream) : NULL;
        if (!stream || handler->from_start || handler->bind || handler->config ||
            !look_is_work_queue(stream))
            continue;
        judge_find(out, self, self->severity, &handler->place, NULL,
                   "%s is a work queue, and the server refuses a durable there that does not "
                   "begin with its first message. Right: deliver = \"all\"",
                   handler->stream);
    }
}

/* --- streams --- */

static bool share_subject(const struct judge_stream *a, const struct judge_stream *b,
                          const char **subject)
{
    const cJSON *subjects = json_field(a->config, "subjects");
    const char *only = look_name(a);
    for (int i = 0;; i++) {
        *subject = cJSON_GetStringValue(cJSON_GetArrayItem(subjects, i));
        if (!*subject && i > 0)
            return false;
        if (!*subject)
            *subject = only;
        if (look_stores(a, *subject) && look_stores(b, *subject))
            return true;
    }
}

JUDGEMENT(overlapping_streams)
{
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *one = &facts->streams[i], *other;
        const char *subject;
        bool found = look_is_servers(one);
        for (int k = 0; k < facts->stream_count && !found; k++) {
            other = &facts->streams[k];
            found = (k < i || look_is_servers(other)) &&
                    strcmp(look_name(one), look_name(other)) != 0 &&
                    share_subject(one, other, &subject);
            if (found)
                judge_find(out, self, self->severity, &one->place, &other->place,
                           "\"%s\" is a subject of stream %s already, and the server refuses a "
                           "second stream for it. Right: subjects that no other stream has",
                           subject, look_name(other));
        }
    }
}

/* --- one with itself --- */

static void find_pair(const struct judge_place *place, const char *what, const char *one,
                      const char *other, const struct judgement *self, struct judge_findings *out)
{
    if (one && other && subject_overlaps(one, other))
        judge_find(out, self, self->severity, place, NULL,
                   "%s \"%s\" and \"%s\" overlap, and the server refuses that. Right: the wider of "
                   "the two alone, or two that share no subject",
                   what, one, other);
}

JUDGEMENT(overlaps_itself)
{
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        const cJSON *subjects = json_field(stream->config, "subjects");
        int count = look_is_servers(stream) ? 0 : cJSON_GetArraySize(subjects);
        for (int k = 1; k < count; k++) {
            for (int n = 0; n < k; n++)
                find_pair(&stream->place, "its subjects",
                          cJSON_GetStringValue(cJSON_GetArrayItem(subjects, n)),
                          cJSON_GetStringValue(cJSON_GetArrayItem(subjects, k)), self, out);
        }
    }
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        for (int k = 1; handler->kind == JUDGE_CONSUME && k < handler->filter_count; k++) {
            for (int n = 0; n < k; n++)
                find_pair(&handler->place, "its filters", handler->filters[n], handler->filters[k],
                          self, out);
        }
    }
}

/* The first handler of whose outputs it is one; or NULL. */
static const struct judge_handler *publisher_to(const struct judge_facts *facts,
                                                const struct judge_stream *stream)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind == JUDGE_CONSUME && look_is_output(facts, handler, stream))
            return handler;
    }
    return NULL;
}

JUDGEMENT(forgetful_output)
{
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        const struct judge_handler *handler = publisher_to(facts, stream);
        if (!handler || strcmp(look_retention(stream), "limits") == 0)
            continue;
        judge_find(out, self, self->severity, &stream->place, &handler->place,
                   "%s keeps only what its consumers have not taken (retention = \"%s\"): it "
                   "forgets the ids of messages when its server restarts, and what %s publishes "
                   "again after that is stored twice. Right: retention = \"limits\" with a "
                   "max_age, or consumers that bear a message twice",
                   look_name(stream), look_retention(stream), handler->place.handler);
    }
}

JUDGEMENT(async_persist)
{
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        if (strcmp(json_text_or(stream->config, "persist_mode", ""), "async") == 0)
            judge_find(out, self, self->severity, &stream->place, NULL,
                       "%s confirms a message before it is written (persist_mode = \"async\"): "
                       "when its server crashes, what a handler has published is gone, though its "
                       "input was acknowledged. Right: leave persist_mode out",
                       look_name(stream));
    }
}

JUDGEMENT(headers_only)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind == JUDGE_CONSUME && handler->headers_only)
            judge_find(out, self, self->severity, &handler->place, NULL,
                       "headers_only: msg.data is always empty; the header Nats-Msg-Size says how "
                       "much there is");
    }
}

/* --- what cannot be --- */

JUDGEMENT(window_above_age)
{
    struct look_words words = {0};
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        int64_t age_ns = json_integer(stream->config, "max_age", 0);
        int64_t window_ns = json_integer(stream->config, "duplicate_window", 0);
        if (look_is_servers(stream) || age_ns <= 0 || window_ns <= age_ns)
            continue;
        judge_find(out, self, self->severity, &stream->place, NULL,
                   "duplicate_window (%s) is longer than max_age (%s): no server makes such a "
                   "stream. Right: duplicate_window = \"%s\", or a longer max_age",
                   look_duration(&words, window_ns), look_duration(&words, age_ns),
                   look_duration(&words, age_ns));
    }
}
