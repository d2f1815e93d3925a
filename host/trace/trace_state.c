/* trace_state - tracestate: judged member by member. */
#include "trace/trace_state.h"

#include <string.h>

/* As the specification bounds them. */
#define MEMBERS_MOST 32
#define NAME_MOST 256
#define VALUE_MOST 256
#define LARGE 128 /* a member that is left out of a list which is too long */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_name_begin(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_name(const char *text, size_t len)
{
    if (len == 0 || len > NAME_MOST || !is_name_begin(*text))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!is_name_begin(c) && c != '_' && c != '-' && c != '*' && c != '/' && c != '@')
            return false;
    }
    return true;
}

/* Printable, without the comma and the equals sign; the blanks at its end are gone already. */
static bool is_value(const char *text, size_t len)
{
    if (len == 0 || len > VALUE_MOST)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e || text[i] == ',' || text[i] == '=')
            return false;
    }
    return true;
}

static void add_member(struct trace_state *state, const char *text, size_t len)
{
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals ? (size_t)(equals - text) : len;
    if (!equals || !is_name(text, name_len) || !is_value(equals + 1, len - name_len - 1) ||
        ++state->members > MEMBERS_MOST) {
        state->bad = true;
        return;
    }
    bool fits = state->len + (state->len > 0) + len <= TRACE_STATE_MOST;
    if (!fits && len <= LARGE)
        state->full = true;
    if (!fits || state->full)
        return;
    if (state->len > 0)
        state->text[state->len++] = ',';
    memcpy(state->text + state->len, text, len);
    state->len += len;
}

void trace_state_add(struct trace_state *state, const char *value, size_t len)
{
    const char *at = value, *end = value + len;
    while (at < end && !state->bad) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end, *next = comma ? comma + 1 : end;
        while (at < stop && is_blank(*at))
            at++;
        while (at < stop && is_blank(stop[-1]))
            stop--;
        if (at < stop) /* an empty member is allowed, and means nothing */
            add_member(state, at, (size_t)(stop - at));
        at = next;
    }
}

const char *trace_state_end(struct trace_state *state)
{
    if (state->bad)
        state->len = 0;
    state->text[state->len] = '\0';
    return state->text;
}
