/* log_storm - which events are of one kind, and how many of them are written. */
#include "base/log_storm.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"

/* --- what is equal --- */

static uint64_t add_string(uint64_t hash, const char *string)
{
    return hash_add(hash, string ? string : "", string ? strlen(string) + 1 : 1);
}

static uint64_t key_of(enum log_level level, const struct log_context *context, const char *format,
                       const char *message, size_t message_len)
{
    uint64_t hash = hash_add(HASH_START, &level, sizeof level);
    hash = add_string(hash, context->script);
    hash = add_string(hash, context->handler);
    hash = add_string(hash, context->stream);
    hash = add_string(hash, context->consumer);
    hash = add_string(hash, context->code);
    hash = add_string(hash, context->file);
    hash = hash_add(hash, &context->line, sizeof context->line);
    if (!context->verbatim)
        return hash_add(hash, &format, sizeof format);
    hash = add_string(hash, context->fields);
    return hash_add(hash, message, message_len);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || strchr("_-.:/", c);
}

/* A text without its words that have a digit: ids, numbers and times differ from line to line. */
static uint64_t text_of(const char *message, size_t len)
{
    uint64_t hash = HASH_START;
    for (size_t at = 0; at < len;) {
        size_t end = at;
        bool digits = false;
        for (; end < len && message[end] && is_word(message[end]); end++)
            digits = digits || isdigit((unsigned char)message[end]);
        end += end == at; /* what is no word counts by itself */
        hash = digits ? hash_add(hash, "#", 1) : hash_add(hash, message + at, end - at);
        at = end;
    }
    return hash;
}

/* --- the kinds --- */

static void drop(struct storms *storms, int i)
{
    storms->verbatim -= storms->kinds[i]->last.context.verbatim;
    free(storms->kinds[i]);
    storms->kinds[i] = storms->kinds[--storms->count];
}

void storms_clear(struct storms *storms)
{
    while (storms->count > 0)
        drop(storms, 0);
}

static bool is_over(const struct storm_kind *kind, uint64_t now_ns)
{
    return now_ns - kind->window_ns >= STORM_WINDOW_NS;
}

static void forget_calm(struct storms *storms, uint64_t now_ns)
{
    for (int i = storms->count - 1; i >= 0; i--) {
        if (storms->kinds[i]->held == 0 && is_over(storms->kinds[i], now_ns))
            drop(storms, i);
    }
}

static bool has_room(const struct storms *storms, bool verbatim)
{
    return storms->count < STORM_KINDS_MOST &&
           (!verbatim || storms->verbatim < STORM_VERBATIM_MOST);
}

static struct storm_kind *find(struct storms *storms, uint64_t key)
{
    for (int i = 0; i < storms->count; i++) {
        if (storms->kinds[i]->key == key)
            return storms->kinds[i];
    }
    return NULL;
}

/* NULL: no room. */
static struct storm_kind *add(struct storms *storms, uint64_t key, bool verbatim, uint64_t now_ns)
{
    if (!has_room(storms, verbatim))
        forget_calm(storms, now_ns);
    struct storm_kind *kind = has_room(storms, verbatim) ? calloc(1, sizeof *kind) : NULL;
    if (!kind)
        return NULL;
    kind->key = key;
    kind->window_ns = now_ns;
    kind->last.context.verbatim = verbatim;
    storms->verbatim += verbatim;
    storms->kinds[storms->count++] = kind;
    return kind;
}

static void begin_window(struct storm_kind *kind, uint64_t now_ns, bool raging)
{
    kind->window_ns = now_ns;
    kind->written = 0;
    kind->held = 0;
    kind->raging = raging;
    if (!raging)
        kind->text_count = 0;
}

/* --- keeping the last one --- */

/* What does not fit is cut; NULL stays NULL. */
static const char *keep(struct storm_copy *copy, const char *string, size_t len)
{
    size_t left = sizeof copy->room - copy->used;
    char *kept = copy->room + copy->used;
    if (!string || left == 0)
        return NULL;
    if (len >= left)
        len = utf8_cut(string, len, left - 1);
    memcpy(kept, string, len);
    kept[len] = '\0';
    copy->used += len + 1;
    return kept;
}

static const char *keep_string(struct storm_copy *copy, const char *string)
{
    return keep(copy, string, string ? strlen(string) : 0);
}

/* Field by field, so that a new string of the context is never one that has gone. */
static void keep_last(struct storm_copy *copy, const struct log_context *context,
                      const char *message, size_t message_len)
{
    copy->used = 0;
    copy->context = (struct log_context){
        .script = keep_string(copy, context->script),
        .handler = keep_string(copy, context->handler),
        .stream = keep_string(copy, context->stream),
        .consumer = keep_string(copy, context->consumer),
        .code = keep_string(copy, context->code),
        .verdict = keep_string(copy, context->verdict),
        .file = keep_string(copy, context->file),
        .dead_letter = keep_string(copy, context->dead_letter),
        .trace_id = keep_string(copy, context->trace_id),
        .span_id = keep_string(copy, context->span_id),
        .subject = keep_string(copy, context->subject),
        .sequence = context->sequence,
        .attempt = context->attempt,
        .attempts = context->attempts,
        .generation = context->generation,
        .tacit = context->tacit,
        .whole = context->whole,
        .delayed = context->delayed,
        .delay_ns = context->delay_ns,
        .duration_ns = context->duration_ns,
        .line = context->line,
        .verbatim = context->verbatim,
    };
    copy->message = keep(copy, message, message_len);
}

/* --- events --- */

/* Another text than those that were written. */
static bool is_news(struct storm_kind *kind, uint64_t text)
{
    for (int i = 0; i < kind->text_count; i++) {
        if (kind->texts[i] == text)
            return false;
    }
    if (kind->text_count == STORM_TEXTS_MOST)
        return false;
    kind->texts[kind->text_count++] = text;
    return true;
}

bool storms_hold(struct storms *storms, enum log_level level, const struct log_context *context,
                 const char *format, const char *message, size_t message_len, uint64_t now_ns)
{
    uint64_t key = key_of(level, context, format, message, message_len);
    struct storm_kind *kind = find(storms, key);
    if (!kind && !(kind = add(storms, key, context->verbatim, now_ns)))
        return false;
    kind->level = level;
    if (kind->held == 0 && is_over(kind, now_ns))
        begin_window(kind, now_ns, false);
    bool news = is_news(kind, text_of(message, message_len));
    if (news || (!kind->raging && kind->written < STORM_LINES_MOST)) {
        kind->written++;
        return false;
    }
    kind->held++;
    keep_last(&kind->last, context, message, message_len);
    return true;
}

static bool take(struct storms *storms, uint64_t now_ns, bool over, struct storm_count *count)
{
    for (int i = 0; i < storms->count; i++) {
        struct storm_kind *kind = storms->kinds[i];
        if (kind->held == 0 || (over && !is_over(kind, now_ns)))
            continue;
        count->level = kind->level;
        count->held = kind->held;
        count->span_ns = now_ns - kind->window_ns;
        count->last = &kind->last;
        begin_window(kind, now_ns, kind->held > STORM_LINES_MOST);
        return true;
    }
    return false;
}

bool storms_due(struct storms *storms, uint64_t now_ns, struct storm_count *count)
{
    return take(storms, now_ns, true, count);
}

bool storms_rest(struct storms *storms, uint64_t now_ns, struct storm_count *count)
{
    return take(storms, now_ns, false, count);
}

uint64_t storms_next_ns(const struct storms *storms)
{
    uint64_t next_ns = UINT64_MAX;
    for (int i = 0; i < storms->count; i++) {
        const struct storm_kind *kind = storms->kinds[i];
        if (kind->held > 0 && kind->window_ns + STORM_WINDOW_NS < next_ns)
            next_ns = kind->window_ns + STORM_WINDOW_NS;
    }
    return next_ns;
}
