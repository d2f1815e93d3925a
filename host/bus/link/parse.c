/* The protocol of a NATS server, read where it lies. */
#include "bus/link/parse.h"

#include <string.h>

/* More digits than any length or subscription has. */
#define DIGITS_MAX 18

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void broken(struct parsed *out, const char *why)
{
    out->kind = PARSE_BROKEN;
    out->why = why;
}

/* The last word of a line, which becomes shorter by it. An empty one: there is none. */
static struct span take_last(struct span *line)
{
    const char *end = line->at + line->len;
    while (end > line->at && is_blank(end[-1]))
        end--;
    const char *at = end;
    while (at > line->at && !is_blank(at[-1]))
        at--;
    line->len = (size_t)(at - line->at);
    return (struct span){at, (size_t)(end - at)};
}

static bool is_number(struct span word, uint64_t *number)
{
    uint64_t sum = 0;
    if (word.len == 0 || word.len > DIGITS_MAX)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        unsigned digit = (unsigned)(word.at[i] - '0');
        if (digit > 9)
            return false;
        sum = sum * 10 + digit;
    }
    *number = sum;
    return true;
}

static bool take_number(struct span *line, uint64_t *number)
{
    return is_number(take_last(line), number);
}

/* `subject sid [reply]`. */
static bool read_names(struct span line, struct parsed *out)
{
    struct span last = take_last(&line), before = take_last(&line), first = take_last(&line);
    if (first.len == 0) {
        out->subject = before;
        return before.len > 0 && is_number(last, &out->sid);
    }
    out->subject = first;
    out->reply = last;
    return take_last(&line).len == 0 && is_number(before, &out->sid);
}

struct lengths {
    uint64_t headers, total;
};

/* A number with `stop` behind it, or, with '\0', with nothing behind it. */
static bool step_over_number(const char **at, const char *end, char stop, uint64_t *number)
{
    const char *first = *at, *digit = first;
    uint64_t sum = 0;
    for (; digit < end && (unsigned char)(*digit - '0') <= 9; digit++)
        sum = sum * 10 + (unsigned)(*digit - '0');
    if (digit == first || digit - first > DIGITS_MAX ||
        (stop ? digit == end || *digit != stop : digit != end))
        return false;
    *number = sum;
    *at = digit + 1;
    return true;
}

static bool read_lengths(const char *at, const char *end, bool has_headers, struct lengths *lengths)
{
    return (!has_headers || step_over_number(&at, end, ' ', &lengths->headers)) &&
           step_over_number(&at, end, '\0', &lengths->total);
}

/* The line as servers write it: one space between two words, or two where a reply would be, and no
 * other blanks. False: it is not so, and has to be read word by word, at three times the price. */
static bool read_plain(struct span line, bool has_headers, struct lengths *lengths,
                       struct parsed *out)
{
    const char *at = line.at + 1, *end = line.at + line.len;
    if (line.len < 2 || *line.at != ' ' || memchr(at, '\t', line.len - 1))
        return false;
    const char *space = memchr(at, ' ', (size_t)(end - at));
    if (!space || space == at)
        return false;
    out->subject = (struct span){at, (size_t)(space - at)};
    at = space + 1;
    if (!step_over_number(&at, end, ' ', &out->sid))
        return false;
    if (at < end && *at == ' ')
        at++; /* what the server sends by itself has an empty reply: PubAcks, answers of its API */
    if (read_lengths(at, end, has_headers, lengths))
        return true;
    space = memchr(at, ' ', (size_t)(end - at));
    if (!space || space == at || !read_lengths(space + 1, end, has_headers, lengths))
        return false;
    out->reply = (struct span){at, (size_t)(space - at)};
    return true;
}

static bool read_words(struct span line, bool has_headers, struct lengths *lengths,
                       struct parsed *out)
{
    out->subject = out->reply = (struct span){NULL, 0};
    return take_number(&line, &lengths->total) &&
           (!has_headers || take_number(&line, &lengths->headers)) && read_names(line, out);
}

/* line: what stands behind MSG or HMSG; rest: what has come behind the line. */
static void parse_message(struct span line, bool has_headers, struct span rest, struct parsed *out)
{
    struct lengths lengths = {0, 0};
    if (!read_plain(line, has_headers, &lengths, out) &&
        !read_words(line, has_headers, &lengths, out)) {
        broken(out, "a message's line that is none");
        return;
    }
    uint64_t total = lengths.total, headers = has_headers ? lengths.headers : 0;
    if (total > PARSE_PAYLOAD_MAX || headers > total) {
        broken(out, "a message of a length that cannot be");
        return;
    }
    out->len += total + 2;
    if (rest.len < total + 2)
        return;
    if (rest.at[total] != '\r' || rest.at[total + 1] != '\n') {
        broken(out, "a message that does not end where it should");
        return;
    }
    out->kind = PARSE_MESSAGE;
    if (headers)
        out->headers = (struct span){rest.at, headers};
    out->data = (struct span){rest.at + headers, total - headers};
}

/* Does the line begin with this word, in any case? */
static bool begins(struct span line, const char *word, size_t len)
{
    return line.len >= len && span_same((struct span){line.at, len}, (struct span){word, len}) &&
           (line.len == len || is_blank(line.at[len]));
}

static void parse_other(struct span line, struct parsed *out)
{
    static const struct {
        const char *word;
        size_t len;
        enum parse_kind kind;
    } words[] = {
        {"PING", 4, PARSE_PING}, {"PONG", 4, PARSE_PONG}, {"+OK", 3, PARSE_OK},
        {"INFO", 4, PARSE_INFO}, {"-ERR", 4, PARSE_ERR},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (begins(line, words[i].word, words[i].len)) {
            out->kind = words[i].kind;
            return;
        }
    }
    broken(out, "an operation that is none");
}

static struct span behind(struct span line, size_t len)
{
    return (struct span){line.at + len, line.len - len};
}

void parse_next(const char *at, size_t len, size_t seen, struct parsed *out)
{
    *out = (struct parsed){.kind = PARSE_MORE, .len = len + 1, .seen = len};
    const char *end = seen < len ? memchr(at + seen, '\n', len - seen) : NULL;
    size_t whole = end ? (size_t)(end - at) + 1 : len;
    if (whole > PARSE_LINE_MAX)
        broken(out, "a line without an end");
    if (!end || out->kind == PARSE_BROKEN)
        return;
    struct span line = {at, whole - 1}, rest = {end + 1, len - whole};
    if (line.len && line.at[line.len - 1] == '\r')
        line.len--;
    out->len = whole;
    out->seen = 0;
    bool plain = line.len > 4 && memcmp(line.at, "MSG ", 4) == 0;
    if (plain || begins(line, "MSG", 3))
        parse_message(behind(line, 3), false, rest, out);
    else if (begins(line, "HMSG", 4))
        parse_message(behind(line, 4), true, rest, out);
    else
        parse_other(line, out);
}
