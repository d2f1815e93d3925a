/* join - puts texts and numbers one after the other into a buffer, as snprintf does, at a tenth of
 * its cost: for names that are made for each message.
 *
 *   struct join name = join_in(buf, sizeof buf);
 *   join_text(&name, stream); join_text(&name, ":"); join_number(&name, sequence);
 *   if (join_cut(&name)) ...
 *
 * The buffer always holds a string, cut where it did not fit. For one thread at a time. */
#ifndef MOONBUS_BASE_JOIN_H
#define MOONBUS_BASE_JOIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct join {
    char *at, *end; /* borrowed; end: the last byte of the buffer, for the NUL */
    bool cut;
};

/* size: at least 1. */
struct join join_in(char *buf, size_t size);
void join_text(struct join *join, const char *text);
static inline void join_bytes(struct join *join, const char *text, size_t len)
{
    size_t room = (size_t)(join->end - join->at);
    if (len > room) {
        join->cut = true;
        len = room;
    }
    memcpy(join->at, text, len);
    join->at += len;
    *join->at = '\0';
}
void join_number(struct join *join, uint64_t number);
void join_hex(struct join *join, uint64_t number);
static inline void join_char(struct join *join, char c)
{
    if (join->at == join->end) {
        join->cut = true;
        return;
    }
    *join->at++ = c;
    *join->at = '\0';
}
/* Not everything fitted. */
bool join_cut(const struct join *join);

#endif
