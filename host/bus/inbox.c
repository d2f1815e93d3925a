#include "bus/inbox.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/join.h"
#include "base/thread.h"
#include "bus/reap.h"

/* A request is in the table while nobody has taken it; who takes it out, under the lock, is the
 * one who ends it. The deadline, while armed or on its way, holds a reference to it and to the
 * inbox: clock_cancel tells whether it is given back here or in on_due. */
struct request {
    struct deadline deadline; /* first: on_due casts back */
    struct inbox *inbox;      /* a reference, as long as the deadline has one */
    uint64_t id;
    atomic_int references;
    inbox_fn on_reply;
    void (*on_drop)(void *owner); /* or NULL */
    void *owner;
    char subject[];
};

struct slot {
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

    pthread_mutex_t lock;           /* the table; a leaf */
    struct slot *slots;             /* owned */
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
            ssize_t got = getrandom(bytes, sizeof bytes, 0);
            have = got > 0 ? (size_t)got : 0;
            at = 0;
            continue;
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
    pthread_mutex_destroy(&inbox->lock);
    free(inbox->slots);
    free(inbox->prefix);
    free(inbox);
}

static void request_release(struct request *request)
{
    if (atomic_fetch_sub(&request->references, 1) == 1)
        free(request);
}

/* --- the table; lock held --- */

static bool table_add(struct inbox *inbox, struct request *request)
{
    if (!inbox->free) {
        if (inbox->count == inbox->capacity) {
            uint32_t capacity = inbox->capacity ? inbox->capacity * 2 : 64;
            struct slot *slots = realloc(inbox->slots, capacity * sizeof *slots);
            if (!slots)
                return false;
            inbox->slots = slots;
            inbox->capacity = capacity;
        }
        inbox->slots[inbox->count] = (struct slot){0};
        inbox->free = ++inbox->count;
    }
    uint32_t index = inbox->free - 1;
    struct slot *slot = &inbox->slots[index];
    inbox->free = slot->next_free;
    slot->request = request;
    slot->generation++;
    request->id = (uint64_t)slot->generation << 32 | (index + 1);
    return true;
}

/* NULL: it has been taken. */
static struct request *table_take(struct inbox *inbox, uint64_t id)
{
    uint32_t number = (uint32_t)id;
    if (number == 0 || number > inbox->count)
        return NULL;
    struct slot *slot = &inbox->slots[number - 1];
    struct request *request = slot->request;
    if (!request || request->id != id)
        return NULL;
    slot->request = NULL;
    slot->next_free = inbox->free;
    inbox->free = number;
    return request;
}

static struct request *take(struct inbox *inbox, uint64_t id)
{
    pthread_mutex_lock(&inbox->lock);
    struct request *request = table_take(inbox, id);
    pthread_mutex_unlock(&inbox->lock);
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

/* For who has taken it. */
static void end(struct request *request, natsMsg *reply, enum err_code code)
{
    request->on_reply(request->owner, reply, code);
    request_release(request);
}

static void on_due(struct deadline *deadline)
{
    struct request *request = (struct request *)deadline;
    struct inbox *inbox = request->inbox;
    if (take(inbox, request->id))
        end(request, NULL, ERR_TIMEOUT);
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

static void on_message(void *owner, natsMsg *msg)
{
    struct inbox *inbox = owner;
    const char *subject = natsMsg_GetSubject(msg), *description;
    uint64_t id = strncmp(subject, inbox->prefix, inbox->prefix_len) == 0
                      ? parse_token(subject + inbox->prefix_len)
                      : 0;
    struct request *request = id ? take(inbox, id) : NULL;
    if (!request) { /* a second reply, or one after its deadline */
        reap(msg);
        return;
    }
    disarm(request);
    if (wire_status(msg, &description) == 503) {
        reap(msg);
        end(request, NULL, ERR_NO_RESPONDERS);
    } else {
        end(request, msg, ERR_NONE);
    }
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
    thread_mutex_init(&inbox->lock);
    char pattern[512];
    snprintf(pattern, sizeof pattern, "%s*", inbox->prefix);
    inbox->sub = link_subscribe(link, pattern, NULL, on_message, inbox);
    if (!inbox->sub) {
        inbox_release(inbox);
        err_set(err, ERR_CLOSED, "the connection is closed");
        return NULL;
    }
    return inbox;
}

struct link *inbox_link(const struct inbox *inbox)
{
    return inbox->link;
}

static struct request *request_new(struct inbox *inbox, const char *subject, inbox_fn on_reply,
                                   void (*on_drop)(void *owner), void *owner)
{
    size_t len = strlen(subject) + 1;
    struct request *request = calloc(1, sizeof *request + len);
    if (!request)
        return NULL;
    memcpy(request->subject, subject, len);
    request->deadline.on_due = on_due;
    request->inbox = inbox;
    atomic_init(&request->references, 2); /* the table's and the deadline's */
    request->on_reply = on_reply;
    request->on_drop = on_drop;
    request->owner = owner;
    return request;
}

uint64_t inbox_request_drop(struct inbox *inbox, const struct link_frame *frame,
                            uint64_t deadline_ns, inbox_fn on_reply, void (*on_drop)(void *owner),
                            void *owner, struct err *err)
{
    struct request *request = request_new(inbox, frame->subject, on_reply, on_drop, owner);
    if (!request) {
        err_set(err, ERR_MEMORY, "out of memory");
        return 0;
    }
    pthread_mutex_lock(&inbox->lock);
    bool closed = inbox->closed;
    bool added = !closed && table_add(inbox, request);
    uint64_t id = request->id;
    if (added) {
        /* Armed before a reply can come, and under the lock, so that whoever takes it finds its
         * deadline armed. */
        atomic_fetch_add(&inbox->references, 1);
        clock_arm(inbox->clock, &request->deadline, deadline_ns);
    }
    pthread_mutex_unlock(&inbox->lock);
    if (!added) {
        free(request);
        err_set(err, closed ? ERR_CLOSED : ERR_MEMORY,
                closed ? "the host is stopping" : "out of memory");
        return 0;
    }

    char reply[512];
    struct join name = join_in(reply, sizeof reply);
    join_text(&name, inbox->prefix);
    join_hex(&name, (uint32_t)id);
    join_text(&name, "-");
    join_hex(&name, id >> 32);
    struct link_frame with_reply = *frame;
    with_reply.reply = reply;
    if (link_send(inbox->link, LANE_BULK, &with_reply, err) == 0)
        return id;
    if (!take(inbox, id))
        return id; /* its deadline was that short: it has ended, by its callback */
    disarm(request);
    request_release(request);
    return 0;
}

uint64_t inbox_request(struct inbox *inbox, const struct link_frame *frame, uint64_t deadline_ns,
                       inbox_fn on_reply, void *owner, struct err *err)
{
    return inbox_request_drop(inbox, frame, deadline_ns, on_reply, NULL, owner, err);
}

bool inbox_cancel(struct inbox *inbox, uint64_t id)
{
    struct request *request = take(inbox, id);
    if (!request)
        return false;
    disarm(request);
    if (request->on_drop)
        request->on_drop(request->owner);
    request_release(request);
    return true;
}

/* Takes the first request at or after *position that goes to subject (NULL: any). */
static struct request *take_next(struct inbox *inbox, uint32_t *position, const char *subject)
{
    struct request *request = NULL;
    pthread_mutex_lock(&inbox->lock);
    for (; *position < inbox->count && !request; ++*position) {
        struct request *here = inbox->slots[*position].request;
        if (here && (!subject || strcmp(here->subject, subject) == 0))
            request = table_take(inbox, here->id);
    }
    pthread_mutex_unlock(&inbox->lock);
    return request;
}

static void end_all(struct inbox *inbox, const char *subject, enum err_code code)
{
    uint32_t position = 0;
    struct request *request;
    while ((request = take_next(inbox, &position, subject))) {
        disarm(request);
        end(request, NULL, code);
    }
}

void inbox_refuse(struct inbox *inbox, const char *subject)
{
    end_all(inbox, subject, ERR_PERMISSION);
}

void inbox_close(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->closed = true;
    pthread_mutex_unlock(&inbox->lock);
    end_all(inbox, NULL, ERR_CLOSED);
}

void inbox_free(struct inbox *inbox)
{
    if (!inbox)
        return;
    inbox_close(inbox);
    inbox_release(inbox);
}
