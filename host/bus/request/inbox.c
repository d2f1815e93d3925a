/* A table of requests by token, and the one subscription that their replies come to. */
#include "bus/request/inbox.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/join.h"
#include "base/random.h"
#include "base/sync.h"
#include "base/thread.h"
#include "bus/wire.h"

/* A request is in the table until somebody takes it out, under the lock; whoever does, ends it.
 * While armed or on its way, the deadline holds a reference to it and to the inbox: clock_cancel
 * says whether that is released here or in on_due. */
struct request {
    struct deadline deadline; /* first: on_due casts back */
    struct inbox *inbox;      /* a reference, as long as the deadline has one */
    uint64_t id;
    atomic_int references;
    inbox_fn on_reply;
    void (*on_drop)(void *owner); /* or NULL */
    void (*on_gone)(void *owner); /* of many replies; else NULL */
    void *owner;
    bool safe;           /* may be sent again */
    bool lost;           /* its connection went: to be sent again. Guarded by the inbox's lock */
    size_t data_at, len; /* if it is safe: in the bytes */
    char bytes[];        /* the subject first */
};

/* Of all replies that wait to be read. */
#define ROOM_BYTES ((size_t)64 << 20)

struct inbox_slot {
    struct request *request; /* NULL: free */
    uint32_t generation;
    uint32_t next_free; /* index + 1; 0: none */
};

struct inbox {
    struct link *link;    /* not owned */
    struct clock *clock;  /* not owned */
    struct link_sub *sub; /* the link's */
    char *prefix;         /* owned: "_INBOX.<unique>." */
    size_t prefix_len;
    atomic_int references;
    atomic_size_t room; /* what is left of ROOM_BYTES */

    struct mutex lock;              /* the table; a leaf */
    struct inbox_slot *slots;       /* owned */
    uint32_t count, capacity, free; /* free: index + 1 */
    bool closed;
};

void inbox_random(char *buf, size_t digits)
{
    static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char bytes[64];
    size_t have = 0, at = 0;
    for (size_t i = 0; i < digits;) {
        if (at == have) {
            random_bytes(bytes, sizeof bytes);
            have = sizeof bytes;
            at = 0;
        }
        unsigned byte = bytes[at++];
        if (byte < 248) /* 4 x 62: what is above would favour the first digits */
            buf[i++] = base62[byte % 62];
    }
    buf[digits] = '\0';
}

static void inbox_release(struct inbox *inbox)
{
    if (atomic_fetch_sub(&inbox->references, 1) > 1)
        return;
    mutex_destroy(&inbox->lock);
    free(inbox->slots);
    free(inbox->prefix);
    free(inbox);
}

static void request_release(struct request *request)
{
    if (atomic_fetch_sub(&request->references, 1) > 1)
        return;
    if (request->on_gone)
        request->on_gone(request->owner);
    free(request);
}

/* --- the table --- */

static bool table_add(struct inbox *inbox, struct request *request)
{
    must_hold(&inbox->lock);
    if (!inbox->free) {
        if (inbox->count == inbox->capacity) {
            uint32_t capacity = inbox->capacity ? inbox->capacity * 2 : 64;
            struct inbox_slot *slots = realloc(inbox->slots, capacity * sizeof *slots);
            if (!slots)
                return false;
            inbox->slots = slots;
            inbox->capacity = capacity;
        }
        inbox->slots[inbox->count] = (struct inbox_slot){0};
        inbox->free = ++inbox->count;
    }
    uint32_t index = inbox->free - 1;
    struct inbox_slot *slot = &inbox->slots[index];
    inbox->free = slot->next_free;
    slot->request = request;
    slot->generation++;
    request->id = (uint64_t)slot->generation << 32 | (index + 1);
    return true;
}

/* NULL: it has been taken. */
static struct inbox_slot *table_find(struct inbox *inbox, uint64_t id)
{
    must_hold(&inbox->lock);
    uint32_t number = (uint32_t)id;
    if (number == 0 || number > inbox->count)
        return NULL;
    struct inbox_slot *slot = &inbox->slots[number - 1];
    return slot->request && slot->request->id == id ? slot : NULL;
}

static struct request *table_take(struct inbox *inbox, uint64_t id)
{
    must_hold(&inbox->lock);
    struct inbox_slot *slot = table_find(inbox, id);
    if (!slot)
        return NULL;
    struct request *request = slot->request;
    slot->request = NULL;
    slot->next_free = inbox->free;
    inbox->free = (uint32_t)id;
    return request;
}

static struct request *take_request(struct inbox *inbox, uint64_t id)
{
    mutex_lock(&inbox->lock);
    struct request *request = table_take(inbox, id);
    mutex_unlock(&inbox->lock);
    return request;
}

/* Whom a reply is for. One that waits for more of them stays in the table, unless this is the last:
 * then *taken is false, and the caller has a reference. */
static struct request *reach_request(struct inbox *inbox, uint64_t id, bool last, bool *taken)
{
    struct request *request = NULL;
    mutex_lock(&inbox->lock);
    struct inbox_slot *slot = table_find(inbox, id);
    *taken = slot && (last || !slot->request->on_gone);
    if (*taken) {
        request = table_take(inbox, id);
    } else if (slot) {
        request = slot->request;
        atomic_fetch_add(&request->references, 1);
    }
    mutex_unlock(&inbox->lock);
    return request;
}

/* --- ending a request --- */

/* Gives the deadline's references back, unless on_due does. */
static void disarm(struct request *request)
{
    struct inbox *inbox = request->inbox;
    if (!clock_cancel(inbox->clock, &request->deadline))
        return;
    request_release(request);
    inbox_release(inbox);
}

/* For the caller that has taken it, or has a reference. */
static void end_request(struct request *request, struct packet *reply, enum err_code code)
{
    request->on_reply(request->owner, reply, code);
    request_release(request);
}

static void on_due(struct deadline *deadline)
{
    struct request *request = (struct request *)deadline;
    struct inbox *inbox = request->inbox;
    if (take_request(inbox, request->id))
        end_request(request, NULL, ERR_TIMEOUT);
    request_release(request);
    inbox_release(inbox);
}

/* The token is "<slot>-<generation>" in hex. 0: it is none of ours. */
static uint64_t parse_token(const char *token)
{
    char *rest = NULL;
    unsigned long long number = strtoull(token, &rest, 16);
    if (rest == token || *rest != '-' || number == 0 || number > UINT32_MAX)
        return 0;
    const char *second = rest + 1;
    unsigned long long generation = strtoull(second, &rest, 16);
    if (rest == second || *rest || generation > UINT32_MAX)
        return 0;
    return (uint64_t)generation << 32 | (uint64_t)number;
}

static void on_message(void *owner, struct packet *packet)
{
    struct inbox *inbox = owner;
    const char *subject = packet->subject;
    uint64_t id = strncmp(subject, inbox->prefix, inbox->prefix_len) == 0
                      ? parse_token(subject + inbox->prefix_len)
                      : 0;
    bool unserved = wire_no_responders(&packet->headers, packet->len), taken = false;
    struct request *request = id ? reach_request(inbox, id, unserved, &taken) : NULL;
    if (!request) /* a second reply, or one after its deadline */
        return;
    if (taken)
        disarm(request);
    if (unserved)
        end_request(request, NULL, ERR_NO_RESPONDERS);
    else
        end_request(request, packet, ERR_NONE);
}

/* --- for everyone --- */

struct inbox *inbox_new(struct link *link, struct clock *clock, const char *prefix, struct err *err)
{
    struct inbox *inbox = calloc(1, sizeof *inbox);
    char unique[23];
    inbox_random(unique, 22);
    if (!inbox || asprintf(&inbox->prefix, "%s.%s.", prefix ? prefix : "_INBOX", unique) < 0) {
        free(inbox);
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    inbox->prefix_len = strlen(inbox->prefix);
    inbox->link = link;
    inbox->clock = clock;
    atomic_init(&inbox->references, 1);
    atomic_init(&inbox->room, ROOM_BYTES);
    mutex_init_spinning(&inbox->lock);
    char pattern[512];
    snprintf(pattern, sizeof pattern, "%s*", inbox->prefix);
    inbox->sub = link_subscribe(link, pattern, NULL, on_message, inbox, err);
    if (!inbox->sub) {
        inbox_release(inbox);
        return NULL;
    }
    return inbox;
}

struct link *inbox_link(const struct inbox *inbox)
{
    return inbox->link;
}

static struct request *request_new(struct inbox *inbox, const struct link_frame *frame, bool safe)
{
    size_t subject_len = strlen(frame->subject) + 1, len = safe ? frame->len : 0;
    struct request *request = calloc(1, sizeof *request + subject_len + len);
    if (!request)
        return NULL;
    memcpy(request->bytes, frame->subject, subject_len);
    request->data_at = subject_len;
    request->len = len;
    if (len)
        memcpy(request->bytes + subject_len, frame->data, len);
    request->safe = safe;
    request->deadline.on_due = on_due;
    request->inbox = inbox;
    atomic_init(&request->references, 2); /* the table's and the deadline's */
    return request;
}

/* With the reply subject of the request of this id. 0 or an error of link_send. */
static int send_request(struct inbox *inbox, const struct link_frame *frame, uint64_t id,
                        struct err *err)
{
    char reply[512];
    struct join name = join_in(reply, sizeof reply);
    join_text(&name, inbox->prefix);
    join_hex(&name, (uint32_t)id);
    join_text(&name, "-");
    join_hex(&name, id >> 32);
    struct link_frame with_reply = *frame;
    with_reply.reply = reply;
    return link_send(inbox->link, LANE_BULK, &with_reply, err);
}

/* takes: request; NULL: out of memory. */
static uint64_t begin_request(struct inbox *inbox, struct request *request,
                              const struct link_frame *frame, uint64_t deadline_ns, struct err *err)
{
    if (!request) {
        err_set(err, ERR_MEMORY, "out of memory");
        return 0;
    }
    mutex_lock(&inbox->lock);
    bool closed = inbox->closed;
    bool added = !closed && table_add(inbox, request);
    uint64_t id = request->id;
    if (added) {
        /* Armed before a reply can come, and under the lock, so that whoever takes it finds its
         * deadline armed. */
        atomic_fetch_add(&inbox->references, 1);
        clock_arm(inbox->clock, &request->deadline, deadline_ns);
    }
    mutex_unlock(&inbox->lock);
    if (!added) {
        free(request);
        err_set(err, closed ? ERR_CLOSED : ERR_MEMORY,
                closed ? "the host is stopping" : "out of memory");
        return 0;
    }
    if (send_request(inbox, frame, id, err) == 0)
        return id;
    if (!take_request(inbox, id))
        return id; /* its deadline was that short: it has ended, by its callback */
    request->on_gone = NULL;
    disarm(request);
    request_release(request);
    return 0;
}

uint64_t inbox_request(struct inbox *inbox, const struct link_frame *frame, uint64_t deadline_ns,
                       inbox_fn on_reply, void *owner, struct err *err)
{
    struct request *request = request_new(inbox, frame, false);
    if (request) {
        request->on_reply = on_reply;
        request->owner = owner;
    }
    return begin_request(inbox, request, frame, deadline_ns, err);
}

uint64_t inbox_request_safe(struct inbox *inbox, const struct link_frame *frame,
                            uint64_t deadline_ns, inbox_fn on_reply, void (*on_drop)(void *owner),
                            void *owner, struct err *err)
{
    struct request *request = request_new(inbox, frame, true);
    if (request) {
        request->on_reply = on_reply;
        request->on_drop = on_drop;
        request->owner = owner;
    }
    return begin_request(inbox, request, frame, deadline_ns, err);
}

uint64_t inbox_request_many(struct inbox *inbox, const struct link_frame *frame,
                            uint64_t deadline_ns, inbox_fn on_reply, void (*on_gone)(void *owner),
                            void *owner, struct err *err)
{
    struct request *request = request_new(inbox, frame, false);
    if (request) {
        request->on_reply = on_reply;
        request->on_gone = on_gone;
        request->owner = owner;
    }
    return begin_request(inbox, request, frame, deadline_ns, err);
}

bool inbox_take_room(struct inbox *inbox, size_t bytes)
{
    size_t room = atomic_load(&inbox->room);
    while (room >= bytes)
        if (atomic_compare_exchange_weak(&inbox->room, &room, room - bytes))
            return true;
    return false;
}

void inbox_give_back(struct inbox *inbox, size_t bytes)
{
    atomic_fetch_add(&inbox->room, bytes);
}

bool inbox_cancel(struct inbox *inbox, uint64_t id)
{
    struct request *request = take_request(inbox, id);
    if (!request)
        return false;
    disarm(request);
    if (request->on_drop)
        request->on_drop(request->owner);
    request_release(request);
    return true;
}

/* Takes the first request at or after *position that goes to subject (NULL: any). */
static struct request *take_next_request(struct inbox *inbox, uint32_t *position,
                                         const char *subject)
{
    struct request *request = NULL;
    mutex_lock(&inbox->lock);
    for (; *position < inbox->count && !request; ++*position) {
        struct request *here = inbox->slots[*position].request;
        if (here && (!subject || strcmp(here->bytes, subject) == 0))
            request = table_take(inbox, here->id);
    }
    mutex_unlock(&inbox->lock);
    return request;
}

static void end_requests(struct inbox *inbox, const char *subject, enum err_code code)
{
    uint32_t position = 0;
    struct request *request;
    while ((request = take_next_request(inbox, &position, subject))) {
        disarm(request);
        end_request(request, NULL, code);
    }
}

static void mark_lost(struct inbox *inbox)
{
    mutex_lock(&inbox->lock);
    for (uint32_t i = 0; i < inbox->count; i++) {
        struct request *request = inbox->slots[i].request;
        if (request && request->safe)
            request->lost = true;
    }
    mutex_unlock(&inbox->lock);
}

/* The first one at or after *position that was lost, with a reference. */
static struct request *next_lost(struct inbox *inbox, uint32_t *position)
{
    struct request *request = NULL;
    mutex_lock(&inbox->lock);
    for (; *position < inbox->count && !request; ++*position) {
        struct request *here = inbox->slots[*position].request;
        if (!here || !here->lost)
            continue;
        request = here;
        request->lost = false;
        atomic_fetch_add(&request->references, 1);
    }
    mutex_unlock(&inbox->lock);
    return request;
}

/* What waited in the lane all the time goes out twice then: one answer is ignored. */
static void send_lost(struct inbox *inbox)
{
    uint32_t position = 0;
    struct request *request;
    while ((request = next_lost(inbox, &position))) {
        struct link_frame frame = {.subject = request->bytes,
                                   .data = request->bytes + request->data_at,
                                   .len = request->len};
        send_request(inbox, &frame, request->id, NULL); /* else its deadline ends it */
        request_release(request);
    }
}

void inbox_on_link(struct inbox *inbox, enum link_state state)
{
    if (state == LINK_CONNECTED)
        send_lost(inbox);
    else
        mark_lost(inbox);
}

void inbox_refuse(struct inbox *inbox, const char *subject)
{
    end_requests(inbox, subject, ERR_PERMISSION);
}

void inbox_close(struct inbox *inbox)
{
    mutex_lock(&inbox->lock);
    inbox->closed = true;
    mutex_unlock(&inbox->lock);
    end_requests(inbox, NULL, ERR_CLOSED);
}

void inbox_free(struct inbox *inbox)
{
    if (!inbox)
        return;
    inbox_close(inbox);
    inbox_release(inbox);
}
