/* Reading the header block where nats.c keeps it. */
#include "bus/link/nats_received.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/link/nats_reap.h"

/* --- where the block lies --- */

static pthread_once_t looked = PTHREAD_ONCE_INIT;
static bool layout_known;

/* Is a message one piece of memory, in the order that we know? */
static void look_at_layout(void)
{
    natsMsg *msg = NULL;
    if (natsMsg_Create(&msg, "a.b", "c.d", "e", 1) != NATS_OK)
        return;
    const char *subject = natsMsg_GetSubject(msg);
    layout_known = natsMsg_GetReply(msg) == subject + sizeof "a.b" &&
                   natsMsg_GetData(msg) == subject + sizeof "a.b" + sizeof "c.d";
    natsMsg_Destroy(msg);
}

/* What lies between the reply (else the subject) and the data. False: it is not as we know it. */
static bool find_between(natsMsg *msg, struct span *between)
{
    const char *subject = natsMsg_GetSubject(msg), *reply = natsMsg_GetReply(msg);
    const char *data = natsMsg_GetData(msg);
    if (!subject || !data)
        return false;
    const char *begin = subject + strlen(subject) + 1;
    if (reply && reply != begin) /* a NUL in the subject */
        return false;
    if (reply)
        begin += strlen(reply) + 1;
    if (data < begin)
        return false;
    *between = (struct span){begin, (size_t)(data - begin)};
    return true;
}

/* --- asking the library --- */

/* A name or value that cannot be a field's would make other lines of itself. */
static bool fits(const char *name, const char *value)
{
    return *name && !strpbrk(name, "\r\n:") && !strstr(value, "\r\n");
}

static void write_field(FILE *out, natsMsg *msg, const char *name)
{
    const char **values = NULL;
    int count = 0;
    if (natsMsgHeader_Values(msg, name, &values, &count) != NATS_OK)
        return;
    for (int i = 0; i < count; i++) {
        const char *value = values[i] ? values[i] : "";
        if (fits(name, value))
            fprintf(out, "%s: %s\r\n", name, value);
    }
    free((void *)values);
}

static struct header_block ask_library(natsMsg *msg)
{
    struct header_block block = {NULL, 0, NULL};
    const char **names = NULL;
    int count = 0;
    if (natsMsgHeader_Keys(msg, &names, &count) != NATS_OK || count == 0) {
        free((void *)names);
        return block;
    }
    FILE *out = open_memstream(&block.owned, &block.len);
    if (out) {
        fputs("NATS/1.0\r\n", out);
        for (int i = 0; i < count; i++)
            write_field(out, msg, names[i]);
        fputs("\r\n", out);
        if (fclose(out) != 0)
            header_block_clear(&block);
        block.at = block.owned;
    }
    free((void *)names);
    return block;
}

/* --- for everyone --- */

struct header_block nats_received_headers(natsMsg *msg)
{
    struct span between = {NULL, 0};
    pthread_once(&looked, look_at_layout);
    if (!layout_known || !find_between(msg, &between))
        return ask_library(msg);
    if (between.len == 0)
        return (struct header_block){NULL, 0, NULL};
    /* One that was read by the library has a NUL where its version line ended. */
    size_t len = between.len - 1;
    if (between.at[len] != '\0' || !header_block_is(between.at, len))
        return ask_library(msg);
    return (struct header_block){between.at, len, NULL};
}

static void free_memory(void *memory)
{
    nats_reap_later(memory);
}

struct packet nats_received_packet(natsMsg *msg)
{
    return (struct packet){
        .subject = natsMsg_GetSubject(msg),
        .reply = natsMsg_GetReply(msg),
        .data = natsMsg_GetData(msg),
        .len = (size_t)natsMsg_GetDataLength(msg),
        .headers = nats_received_headers(msg),
        .memory = msg,
        .free_memory = free_memory,
    };
}
