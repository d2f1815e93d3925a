/* A walk over the string literals of Lua source; nothing else of it is understood. */
#include "app/words.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <string.h>

#include "base/value.h"

bool words_has(const char *text, size_t len, const char *word)
{
    return memmem(text, len, word, strlen(word)) != NULL;
}

static bool is_name_byte(char byte)
{
    return isalnum((unsigned char)byte) || byte == '_';
}

/* Behind a text that begins at `at`; none goes beyond its line. */
static const char *behind_text(const char *at, const char *end)
{
    char quote = *at++;
    while (at < end && *at != quote && *at != '\n')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at < end && *at == quote ? at + 1 : at;
}

static bool is_quote(char byte)
{
    return byte == '"' || byte == '\'';
}

/* Does what begins at `at` stand neither in a comment nor in a text of its line? */
static bool is_code(const char *text, const char *at, const char *end)
{
    const char *from = at;
    while (from > text && from[-1] != '\n')
        from--;
    while (from < at) {
        if (from[0] == '-' && from[1] == '-')
            return false;
        from = is_quote(*from) ? behind_text(from, end) : from + 1;
    }
    return from == at;
}

/* The arguments of a call end here. */
static const char *call_end(const char *open, const char *end)
{
    int depth = 0;
    for (const char *at = open; at < end;) {
        depth += *at == '(' ? 1 : *at == ')' ? -1 : 0;
        if (depth == 0)
            return at;
        at = is_quote(*at) ? behind_text(at, end) : at + 1;
    }
    return end;
}

bool words_calls_without(const char *text, size_t len, const char *word, const char *option)
{
    const char *at = text, *end = text + len;
    size_t size = strlen(word);
    for (; (at = memmem(at, (size_t)(end - at), word, size)); at += size) {
        const char *open = at + size;
        if ((at > text && is_name_byte(at[-1])) || (open < end && is_name_byte(*open)) ||
            !is_code(text, at, end))
            continue;
        while (open < end && isspace((unsigned char)*open))
            open++;
        if (open < end && *open == '{')
            continue;
        if (open == end || *open != '(' ||
            !memmem(open, (size_t)(call_end(open, end) - open), option, strlen(option)))
            return true;
    }
    return false;
}

/* Does the text before a literal end with that word, as in `messages("`? */
static bool follows(const char *text, size_t at, const char *word, const char *between)
{
    size_t len = strlen(word);
    while (at > 0 && (isspace((unsigned char)text[at - 1]) || strchr(between, text[at - 1])))
        at--;
    return at >= len && memcmp(text + at - len, word, len) == 0 &&
           (at == len || !isalnum((unsigned char)text[at - len - 1]));
}

/* A literal with wildcards is a filter. One that ends in a dot, or within a token, may be the
 * beginning of a subject. */
static bool may_begin(const char *literal, const char *pattern)
{
    for (;;) {
        size_t mine = strcspn(literal, "."), theirs = strcspn(pattern, ".");
        bool any = theirs == 1 && (*pattern == '*' || *pattern == '>');
        if (literal[mine] == '\0') /* a piece of a token, or all of it */
            return any || (mine <= theirs && strncmp(literal, pattern, mine) == 0);
        if (*pattern == '>' && any)
            return true;
        if ((!any && (mine != theirs || strncmp(literal, pattern, mine) != 0)) ||
            pattern[theirs] == '\0')
            return false;
        literal += mine + 1;
        pattern += theirs + 1;
    }
}

/* Is there nothing but spaces and commas between the two? */
static bool is_list(const char *text, size_t from, size_t to)
{
    while (from < to && (isspace((unsigned char)text[from]) || text[from] == ','))
        from++;
    return from == to;
}

static void look_at(const char *text, size_t start, const char *literal, const char *name,
                    const cJSON *subjects, bool stated, struct words_use *use)
{
    const cJSON *subject;
    if (strcmp(literal, name) == 0)
        use->reads |= follows(text, start, "messages", "(") || follows(text, start, "get", "(");
    if (!*literal || strpbrk(literal, "*>") || follows(text, start, "filter", "={"))
        return;
    bool fits = false;
    cJSON_ArrayForEach(subject, subjects)
        fits |= cJSON_IsString(subject) && may_begin(literal, subject->valuestring);
    use->subject += fits;
    use->stated += fits && stated;
}

void words_look(const char *text, size_t len, const char *name, const cJSON *subjects,
                struct words_use *use)
{
    char literal[SUBJECT_MAX_BYTES + 1];
    size_t before = 0;   /* where the last literal ended, */
    bool stated = false; /* and whether it is of a list of subjects */
    for (size_t at = 0; at < len; at++) {
        if (text[at] != '"' && text[at] != '\'')
            continue;
        const char *end = memchr(text + at + 1, text[at], len - at - 1);
        const char *line = memchr(text + at + 1, '\n', len - at - 1);
        if (!end || (line && line < end)) /* an apostrophe */
            continue;
        size_t size = (size_t)(end - text) - at - 1;
        if (size < sizeof literal) {
            memcpy(literal, text + at + 1, size);
            literal[size] = '\0';
            stated = follows(text, at, "subjects", "={") || (stated && is_list(text, before, at));
            look_at(text, at, literal, name, subjects, stated, use);
        }
        at += size + 1;
        before = at + 1;
    }
}

bool words_only_reads(const struct words_use *use)
{
    return use->reads && use->subject <= use->stated;
}

/* --- locks and limits of a cluster --- */

/* A table of options is no longer than that. */
#define OPTIONS_MOST 600

/* The value of the field whose name begins at `at`; NULL: that is no such field, or in a comment.
 */
static const char *value_of(const char *text, const char *end, const char *at, const char *name)
{
    const char *value = at + strlen(name);
    if ((at > text && (is_name_byte(at[-1]) || at[-1] == '.')) || !is_code(text, at, end))
        return NULL;
    while (value < end && isspace((unsigned char)*value))
        value++;
    if (value == end || *value != '=' || (value + 1 < end && value[1] == '='))
        return NULL;
    for (value++; value < end && isspace((unsigned char)*value);)
        value++;
    return value < end ? value : NULL;
}

/* The literal that begins there, without its quotes: its length; 0: it is none, or empty. */
static size_t literal_at(const char *value, const char *end)
{
    const char *close = NULL;
    if (value && (*value == '"' || *value == '\''))
        close = memchr(value + 1, *value, (size_t)(end - value) - 1);
    return close ? (size_t)(close - value) - 1 : 0;
}

static bool read_bucket(const char *value, const char *end, struct words_cluster *words)
{
    size_t len = literal_at(value, end);
    *words->bucket = '\0';
    if (len == 0)
        return end - value >= 4 && memcmp(value, "true", 4) == 0 &&
               (value + 4 == end || !is_name_byte(value[4]));
    for (size_t i = 1; i <= len; i++) {
        if (!is_name_byte(value[i]) && value[i] != '-')
            return false;
    }
    if (len >= sizeof words->bucket)
        return false;
    memcpy(words->bucket, value + 1, len);
    words->bucket[len] = '\0';
    return true;
}

/* What else stands between the braces around it. */
static void read_options(const char *text, const char *end, const char *at,
                         struct words_cluster *words)
{
    const char *from = at, *to = at;
    while (from > text && at - from < OPTIONS_MOST && *from != '{')
        from--;
    while (to < end && to - at < OPTIONS_MOST && *to != '}')
        to++;
    const char *ttl = memmem(from, (size_t)(to - from), "ttl", 3);
    const char *value = ttl ? value_of(text, end, ttl, "ttl") : NULL;
    size_t len = literal_at(value, end);
    words->ttl_ns = 0;
    if (len == 0 || value_duration(value + 1, len, &words->ttl_ns, NULL) != 0)
        words->ttl_ns = 0;
    words->limits = memmem(from, (size_t)(to - from), "rate", 4);
}

static int line_of(const char *text, const char *at)
{
    int line = 1;
    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

bool words_next_cluster(const char *text, size_t len, struct words_cluster *words)
{
    static const char field[] = "cluster";
    const char *end = text + len, *at;
    while ((at = memmem(text + words->at, len - words->at, field, sizeof field - 1))) {
        const char *value = value_of(text, end, at, field);
        words->at = (size_t)(at - text) + sizeof field - 1;
        if (!value || !read_bucket(value, end, words))
            continue;
        words->line = line_of(text, at);
        read_options(text, end, at, words);
        return true;
    }
    return false;
}
