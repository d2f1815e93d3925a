/* A copy of the fields in which each text has its NUL. */
#include "bus/link/nats_fields.h"

#include <stdlib.h>
#include <string.h>

/* Up to so many bytes cost no allocation of ours. */
#define ROOM 1024

/* Each NUL takes the place of what stood behind a text, which headers_next has passed by then. */
static natsStatus add_each(natsMsg *msg, char *bytes, size_t len)
{
    const struct headers copy = {.bytes = bytes, .len = len};
    struct header_field field;
    size_t position = 0;
    natsStatus status = NATS_OK;
    while (status == NATS_OK && headers_next(&copy, &position, &field)) {
        char *name = bytes + (field.name.at - bytes), *value = bytes + (field.value.at - bytes);
        name[field.name.len] = '\0';
        value[field.value.len] = '\0';
        status = natsMsgHeader_Add(msg, name, value);
    }
    return status;
}

natsStatus nats_fields_add(natsMsg *msg, const struct headers *fields)
{
    char room[ROOM], *copy = fields->len <= sizeof room ? room : malloc(fields->len);
    if (!copy)
        return NATS_NO_MEMORY;
    if (fields->len)
        memcpy(copy, fields->bytes, fields->len);
    natsStatus status = add_each(msg, copy, fields->len);
    if (copy != room)
        free(copy);
    return status;
}
