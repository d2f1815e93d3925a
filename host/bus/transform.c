/* Parsing of both patterns, and tokens put back in their places. */
#include "bus/transform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/value.h"
#include "bus/header_block.h"

#define WILDCARDS_MOST 64

/* What the wildcards of a transform stood for. */
struct bound {
    struct span tokens[WILDCARDS_MOST + 1]; /* counted from 1 */
    struct span rest;                       /* of ">" */
};

/* The token that begins at *at; *at goes behind it. A function may hold dots and commas of its own.
 */
static struct span take_token(const char **at)
{
    const char *begin = *at, *end = begin;
    bool within = strncmp(begin, "{{", 2) == 0;
    const char *close = within ? strstr(begin, "}}") : NULL;
    end = close ? close + 2 : begin;
    end += strcspn(end, ".");
    *at = *end ? end + 1 : end;
    return (struct span){begin, (size_t)(end - begin)};
}

static bool same_token(struct span a, struct span b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

enum token_kind { LITERAL, WILDCARD, MADE_ANEW, CUT };

/* The number of "$2" or of "{{ wildcard(2) }}" goes to *number. */
static enum token_kind kind_of(struct span token, unsigned long *number)
{
    char text[256], name[32] = "", *end;
    int arguments = 0;
    span_text(token, text, sizeof text);
    *number = 0;
    if (text[0] == '$' && text[1] >= '1' && text[1] <= '9') {
        *number = strtoul(text + 1, &end, 10);
        return *end ? LITERAL : WILDCARD;
    }
    if (strncmp(text, "{{", 2) != 0)
        return LITERAL;
    if (sscanf(text, "{{ %31[A-Za-z] ( %n", name, &arguments) != 1 || !arguments)
        return CUT;
    if (strcasecmp(name, "partition") == 0 || strcasecmp(name, "random") == 0)
        return MADE_ANEW;
    if (strcasecmp(name, "wildcard") != 0)
        return CUT;
    *number = strtoul(text + arguments, &end, 10);
    return *number ? WILDCARD : CUT;
}

static bool bind_wildcard(struct bound *bound, unsigned long number, struct span token)
{
    if (number > WILDCARDS_MOST)
        return false;
    if (bound->tokens[number].at)
        return same_token(bound->tokens[number], token);
    bound->tokens[number] = token;
    return true;
}

/* Does the subject fit what the transform makes? *cut: it may, but more was made of it than can be
 * told. */
static bool match_dest(const char *dest, const char *subject, struct bound *bound, bool *cut)
{
    while (*dest && *subject) {
        struct span wanted = take_token(&dest);
        if (wanted.len == 1 && *wanted.at == '>') {
            bound->rest = (struct span){subject, strlen(subject)};
            return !*dest;
        }
        struct span token = take_token(&subject);
        unsigned long number;
        switch (kind_of(wanted, &number)) {
        case LITERAL:
            if (!same_token(wanted, token))
                return false;
            break;
        case WILDCARD:
            if (!bind_wildcard(bound, number, token))
                return false;
            break;
        case MADE_ANEW:
            break;
        case CUT:
            *cut = true;
            break;
        }
    }
    return !*dest && !*subject;
}

/* False: there is no room. */
static bool append_token(char *out, size_t size, size_t *len, struct span token)
{
    if (*len + (*len > 0) + token.len >= size)
        return false;
    if (*len > 0)
        out[(*len)++] = '.';
    memcpy(out + *len, token.at, token.len);
    *len += token.len;
    out[*len] = '\0';
    return true;
}

/* False: something of it is not known, or is too long. */
static bool fill(const char *src, const struct bound *bound, char *out, size_t size)
{
    unsigned long number = 0;
    size_t len = 0;
    while (*src) {
        struct span token = take_token(&src);
        if (token.len == 1 && *token.at == '>')
            token = bound->rest;
        else if (token.len == 1 && *token.at == '*')
            token = ++number <= WILDCARDS_MOST ? bound->tokens[number] : (struct span){NULL, 0};
        if (!token.at || !append_token(out, size, &len, token))
            return false;
    }
    return len > 0;
}

int transform_undo(const char *src, const char *dest, const char *subject, char *out, size_t size,
                   struct err *err)
{
    struct bound bound = {0};
    bool cut = false;
    const char *from = src && *src ? src : ">";
    if (!dest || !*dest || !match_dest(dest, subject, &bound, &cut))
        return 0;
    if (!cut && fill(from, &bound, out, size))
        return 1;
    return err_set(err, ERR_INVALID,
                   "the transform of \"%s\" to \"%s\" does not let one tell what \"%s\" was made "
                   "of",
                   from, dest, subject);
}

bool transform_takes(const char *src, const char *subject)
{
    return subject_matches(src && *src ? src : ">", subject);
}
