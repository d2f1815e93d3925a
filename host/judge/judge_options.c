/* judge_options - judgements on options that do nothing, or not what one would think, and on files
 * that are not there. */
#include <cjson/cJSON.h>
#include <string.h>

#include "base/json.h"
#include "judge/judge_look.h"
#include "judge/judge_table.h"

/* Without a dead letter it comes again all the same, at backoff.max. */
JUDGEMENT(idle_backoff)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || handler->attempts != 1 || !handler->backoff_stated ||
            !(handler->dead_letter || handler->drops))
            continue;
        judge_find(
            out, self, self->severity, &handler->place, NULL,
            "attempts = 1: what fails is given up at once, and the backoff, which stands "
            "between two attempts, is never used. Right: attempts = 2 or more, or no backoff");
    }
}

/* Has each subject that fits the pattern that token? */
static bool has_token(const char *pattern, int token)
{
    size_t len = strlen(pattern);
    int count = 1;
    for (const char *dot = strchr(pattern, '.'); dot; dot = strchr(dot + 1, '.'))
        count++;
    return count >= token || (len > 0 && pattern[len - 1] == '>');
}

static void find_tokenless(const struct judge_handler *handler, const char *pattern,
                           const struct judgement *self, struct judge_findings *out)
{
    if (has_token(pattern, handler->order_token))
        return;
    judge_find(
        out, self, self->severity, &handler->place, NULL,
        "order_by = %d, and the subjects of \"%s\" have no token %d: their messages are in no "
        "order. Right: the number of a token that they have, counted from 1, or "
        "order_by = \"subject\"",
        handler->order_token, pattern, handler->order_token);
}

/* Of the messages that the handler gets, where it names none of its own; NULL: they are not known,
 * or the stream stores them under others. */
static const cJSON *stored_subjects(const struct judge_facts *facts,
                                    const struct judge_handler *handler)
{
    const struct judge_stream *stream =
        handler->filter_count == 0 ? look_stream(facts, handler->stream) : NULL;
    const cJSON *transform = stream ? json_field(stream->config, "subject_transform") : NULL;
    if (!stream || (transform && !cJSON_IsNull(transform)))
        return NULL;
    return json_field(stream->config, "subjects");
}

JUDGEMENT(order_without_token)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || handler->order_token == 0)
            continue;
        for (int k = 0; k < handler->filter_count; k++)
            find_tokenless(handler, handler->filters[k], self, out);
        const cJSON *subjects = stored_subjects(facts, handler), *each;
        cJSON_ArrayForEach(each, subjects) {
            if (cJSON_IsString(each))
                find_tokenless(handler, each->valuestring, self, out);
        }
    }
}

/* As a number it is seconds, where one may have thought of hours or days. */
JUDGEMENT(short_max_age)
{
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream =
            handler->kind == JUDGE_CONSUME ? look_stream(facts, handler->stream) : NULL;
        int64_t age_ns = stream ? json_integer(stream->config, "max_age", 0) : 0;
        bool timed = handler->timeout_stated && handler->timeout_ns > handler->ack_wait_ns;
        int64_t least_ns = timed ? handler->timeout_ns : handler->ack_wait_ns;
        if (age_ns <= 0 || age_ns >= least_ns)
            continue;
        judge_find(
            out, self, self->severity, &handler->place, &stream->place,
            "max_age of %s (%s) is shorter than %s (%s): a message goes while it is handled, "
            "and does not come again when that fails. Right: a max_age of all that a message "
            "may have to wait for, with its unit (\"12h\"; a number is seconds)",
            handler->stream, look_duration(&words, age_ns), timed ? "timeout" : "ack_wait",
            look_duration(&words, least_ns));
    }
}

/* Of a check, which may run elsewhere than the host: a note. */
JUDGEMENT(missing_file)
{
    const struct judge_settings *settings = &facts->settings;
    for (int i = 0; i < settings->unreadable_count; i++) {
        const struct judge_file *file = &settings->unreadable[i];
        judge_find(out, self, self->severity, NULL, NULL,
                   "%s: \"%s\" cannot be read here: a host that starts here ends with that. Right: "
                   "the path of a file that whoever runs the host may read",
                   file->key, file->path);
    }
}
