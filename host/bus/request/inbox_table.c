/* An array of slots, and a list of those that are free; ids as text. */
#include "bus/request/inbox_table.h"

#include <stdlib.h>

static bool grow(struct inbox_table *table)
{
    if (table->count < table->capacity)
        return true;
    uint32_t capacity = table->capacity ? table->capacity * 2 : 64;
    struct inbox_slot *slots = realloc(table->slots, capacity * sizeof *slots);
    if (!slots)
        return false;
    table->slots = slots;
    table->capacity = capacity;
    return true;
}

bool inbox_table_add(struct inbox_table *table, struct inbox_request *request)
{
    if (!table->free) {
        if (!grow(table))
            return false;
        table->slots[table->count] = (struct inbox_slot){0};
        table->free = ++table->count;
    }
    uint32_t index = table->free - 1;
    struct inbox_slot *slot = &table->slots[index];
    table->free = slot->next_free;
    slot->request = request;
    slot->generation++;
    request->id = (uint64_t)slot->generation << 32 | (index + 1);
    return true;
}

struct inbox_request *inbox_table_find(const struct inbox_table *table, uint64_t id)
{
    uint32_t number = (uint32_t)id;
    if (number == 0 || number > table->count)
        return NULL;
    struct inbox_request *request = table->slots[number - 1].request;
    return request && request->id == id ? request : NULL;
}

struct inbox_request *inbox_table_take(struct inbox_table *table, uint64_t id)
{
    struct inbox_request *request = inbox_table_find(table, id);
    if (!request)
        return NULL;
    struct inbox_slot *slot = &table->slots[(uint32_t)id - 1];
    slot->request = NULL;
    slot->next_free = table->free;
    table->free = (uint32_t)id;
    return request;
}

void inbox_table_clear(struct inbox_table *table)
{
    free(table->slots);
    *table = (struct inbox_table){0};
}

static char *write_hex(char *at, uint32_t number)
{
    int shift = (31 - __builtin_clz(number | 1)) & ~3;
    for (; shift >= 0; shift -= 4)
        *at++ = "0123456789abcdef"[number >> shift & 15];
    return at;
}

/* "<slot>-<generation>" in hex. */
char *inbox_token_write(char *at, uint64_t id)
{
    at = write_hex(at, (uint32_t)id);
    *at++ = '-';
    at = write_hex(at, (uint32_t)(id >> 32));
    *at = '\0';
    return at;
}

#define HEX_DIGITS 8

/* The number that begins here. Returns what is behind it; NULL: there is none, or it has more than
 * 32 bits. */
static const char *read_hex(const char *at, uint32_t *out)
{
    const char *first = at;
    uint32_t number = 0;
    for (;; at++) {
        unsigned c = (unsigned char)*at, digit = c - '0';
        if (digit > 9 && (digit = c - 'a') <= 5)
            digit += 10;
        else if (digit > 9)
            break;
        number = number << 4 | digit;
    }
    *out = number;
    return at > first && at - first <= HEX_DIGITS ? at : NULL;
}

uint64_t inbox_token_parse(const char *token)
{
    uint32_t slot, generation;
    token = read_hex(token, &slot);
    if (!token || *token != '-' || slot == 0)
        return 0;
    token = read_hex(token + 1, &generation);
    return token && !*token ? (uint64_t)generation << 32 | slot : 0;
}
