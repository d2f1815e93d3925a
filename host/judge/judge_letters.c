/* judge_letters - judgements on dead letters: is there one, is it kept, and where does it go? */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "judge/judge_look.h"
#include "judge/judge_table.h"

JUDGEMENT(no_dead_letter)
{
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || handler->dead_letter || handler->drops)
            continue;
        judge_find(out, self, self->severity, &handler->place, NULL,
                   "no dead_letter: a message that fails is never given up: after its attempts "
                   "(%d) it comes again every %s, for ever%s; dead_letter = \"a.subject\" has it "
                   "stored there, dead_letter = false terminates it",
                   handler->attempts, look_duration(&words, handler->backoff_max_ns),
                   handler->ordered ? ", and its key waits for it" : "");
    }
}

/* --- round and round --- */

/* Where its letters are stored; NULL: it has none, or nobody knows. */
static const struct judge_stream *letters_of(const struct judge_facts *facts,
                                             const struct judge_handler *handler)
{
    return handler->dead_letter ? look_stream_of(facts, handler->dead_letter) : NULL;
}

/* Is a letter of `from`, which that stream has, a message of `to`? */
static bool leads_to(const struct judge_handler *from, const struct judge_stream *stream,
                     const struct judge_handler *to)
{
    return stream && to->kind == JUDGE_CONSUME && strcmp(look_name(stream), to->stream) == 0 &&
           look_filters_take(to, from->dead_letter);
}

/* The handlers that a letter comes to one after the other, if each of them fails. */
struct letter_way {
    const struct judge_handler **list; /* in the order in which they were found */
    bool *found;                       /* by a handler's place in the facts */
    int count;
};

/* Of a dozen whose letters have one subject, one is followed: the others lead to the same. */
static bool is_followed(const struct letter_way *way, int followed, const char *dead_letter)
{
    for (int i = 0; i < followed; i++) {
        if (look_same(way->list[i]->dead_letter, dead_letter))
            return true;
    }
    return false;
}

static void follow_letter(const struct judge_facts *facts, const struct judge_handler *from,
                          struct letter_way *way)
{
    const struct judge_stream *stream = letters_of(facts, from);
    for (int i = 0; i < facts->handler_count && stream; i++) {
        if (way->found[i] || !leads_to(from, stream, &facts->handlers[i]))
            continue;
        way->found[i] = true;
        way->list[way->count++] = &facts->handlers[i];
    }
}

/* Does a letter of that handler come to it again, after others that fail? Breadth first: each
 * handler is found once, so rounds beside the one that is looked for cost nothing. */
static bool comes_back(const struct judge_facts *facts, int start, struct letter_way *way)
{
    memset(way->found, 0, (size_t)facts->handler_count * sizeof *way->found);
    way->count = 0;
    follow_letter(facts, &facts->handlers[start], way);
    for (int i = 0; i < way->count && !way->found[start]; i++) {
        if (!is_followed(way, i, way->list[i]->dead_letter))
            follow_letter(facts, way->list[i], way);
    }
    return way->found[start];
}

static void judge_return(const struct judge_facts *facts, int start, struct letter_way *way,
                         const struct judgement *self, struct judge_findings *out)
{
    const struct judge_handler *handler = &facts->handlers[start];
    if (handler->kind != JUDGE_CONSUME || !handler->dead_letter)
        return;
    if (leads_to(handler, letters_of(facts, handler), handler))
        judge_find(out, self, self->severity, &handler->place, NULL,
                   "dead letters to \"%s\" come back to this durable: what cannot be processed "
                   "would go round for ever. Right: another stream for them, or a filter that "
                   "leaves them out",
                   handler->dead_letter);
    else if (comes_back(facts, start, way))
        judge_find(out, self, JUDGE_WARNING, &handler->place, NULL,
                   "dead letters to \"%s\" are consumed, and the dead letters of that come "
                   "back here: what cannot be processed goes round for ever. Right: a last "
                   "dead letter that no handler consumes, or dead_letter = false there",
                   handler->dead_letter);
}

JUDGEMENT(dead_letter_returns)
{
    size_t count = (size_t)facts->handler_count + 1;
    struct letter_way way = {.list = calloc(count, sizeof *way.list),
                             .found = calloc(count, sizeof *way.found)};
    out->failed = out->failed || !way.list || !way.found;
    for (int i = 0; i < facts->handler_count && way.list && way.found; i++)
        judge_return(facts, i, &way, self, out);
    free(way.list);
    free(way.found);
}

/* --- where they go --- */

JUDGEMENT(dead_letter_without_stream)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const char *subject = handler->dead_letter;
        if (handler->kind != JUDGE_CONSUME || !subject || look_stream_of(facts, subject))
            continue;
        judge_find(out, self, facts->asked ? JUDGE_ERROR : self->severity, &handler->place, NULL,
                   "%s takes the dead_letter subject \"%s\": %s. Right: js.stream { name = ..., "
                   "subjects = { \"%s\" } }",
                   facts->asked ? "no stream" : "no script states a stream that", subject,
                   facts->asked ? "the handler is not served" : "it must be on the server already",
                   subject);
    }
}

JUDGEMENT(dead_letter_unconfirmed)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream = handler->kind == JUDGE_CONSUME && handler->dead_letter
                                                ? look_stream_of(facts, handler->dead_letter)
                                                : NULL;
        if (stream && json_true(stream->config, "no_ack"))
            judge_find(out, self, self->severity, &handler->place, &stream->place,
                       "stream %s takes the dead_letter subject \"%s\", but confirms nothing "
                       "(no_ack): no letter would count as stored, and the handler is not served. "
                       "Right: a stream without no_ack",
                       look_name(stream), handler->dead_letter);
    }
}

JUDGEMENT(dead_letter_by_interest)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream = handler->kind == JUDGE_CONSUME && handler->dead_letter
                                                ? look_stream_of(facts, handler->dead_letter)
                                                : NULL;
        if (stream && strcmp(look_retention(stream), "interest") == 0)
            judge_find(out, self, self->severity, &handler->place, &stream->place,
                       "dead letters to \"%s\" go to stream %s, which keeps only what a consumer "
                       "wants (retention = \"interest\"): without a consumer they are gone at "
                       "once. Right: retention = \"limits\"",
                       handler->dead_letter, look_name(stream));
    }
}
