/* inbox_table - the requests of an inbox that are under way, by number: a slot each, and how often
 * that has been used, so that a late reply finds nobody else's request.
 *
 *   id: how often << 32 | slot + 1; never 0
 *
 * It owns its slots, not the requests. Under the inbox's lock. */
#ifndef MOONBUS_BUS_REQUEST_INBOX_TABLE_H
#define MOONBUS_BUS_REQUEST_INBOX_TABLE_H

#include "bus/request/inbox.h"

struct inbox_slot {
    struct inbox_request *request; /* NULL: free */
    uint32_t generation;
    uint32_t next_free; /* index + 1; 0: none */
};

/* All zero: empty. */
struct inbox_table {
    struct inbox_slot *slots;       /* owned */
    uint32_t count, capacity, free; /* free: index + 1 */
};

/* Gives the request its id. False: no memory. */
bool inbox_table_add(struct inbox_table *table, struct inbox_request *request);
/* NULL: it has been taken. */
struct inbox_request *inbox_table_find(const struct inbox_table *table, uint64_t id);
struct inbox_request *inbox_table_take(struct inbox_table *table, uint64_t id);
void inbox_table_clear(struct inbox_table *table);

/* An id as the token at the end of a reply subject, with a NUL: at most INBOX_TOKEN bytes. Returns
 * its end. */
enum { INBOX_TOKEN = 18 };
char *inbox_token_write(char *at, uint64_t id);
/* 0: it is none of ours. */
uint64_t inbox_token_parse(const char *token);

#endif
