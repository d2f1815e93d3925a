/* A table of requests by token, and the one subscription that their replies come to. */
#include "bus/request/inbox.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/container.h"
#include "base/random.h"
#include "base/sync.h"
#include "base/thread.h"
#include "bus/request/inbox_table.h"
#include "bus/wire.h"

/* Of all replies that wait to be read. */
#define ROOM_BYTES ((size_t)64 << 20)

#define REPLY_BYTES 512 /* of a reply subject; the config bounds what it begins with */

struct inbox {
    struct link *link;    /* not owned */
    struct clock *clock;  /* not owned */
    struct link_sub *sub; /* the link's */
    char *prefix;         /* owned: "_INBOX.<unique>." */
    size_t prefix_len;
    atomic_int references;
    atomic_size_t room; /* what is left of ROOM_BYTES */

    struct mutex lock; /* what is below; only the clock is called with it held */
    struct inbox_table table;
    struct dues dues;    /* what is in the table */
    struct deadline due; /* for the first of them; holds a reference while armed */
    uint64_t due_ns;     /* it is armed for that, or earlier; UINT64_MAX: it is not */
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
    inbox_table_clear(&inbox->table);
    dues_clear(&inbox->dues);
    free(inbox->prefix);
    free(inbox);
}

/* Its memory may be gone with on_gone. */
static void request_release(struct inbox_request *request)
{
    if (atomic_fetch_sub(&request->references, 1) > 1)
        return;
    bool owned = request->owned;
    if (request->on_gone)
        request->on_gone(request->owner);
    if (owned)
        free(request);
}

/* --- taking a request --- */

/* NULL: it has been taken. */
static struct inbox_request *take(struct inbox *inbox, uint64_t id)
{
    must_hold(&inbox->lock);
    struct inbox_request *request = inbox_table_take(&inbox->table, id);
    if (request)
        dues_remove(&inbox->dues, &request->due);
    return request;
}

static struct inbox_request *take_request(struct inbox *inbox, uint64_t id)
{
    mutex_lock(&inbox->lock);
    struct inbox_request *request = take(inbox, id);
    mutex_unlock(&inbox->lock);
    return request;
}

/* Whom a reply is for. One that waits for more of them stays in the table, unless this is the last:
 * then *taken is false, and the caller has a reference. */
static struct inbox_request *reach_request(struct inbox *inbox, uint64_t id, bool last, bool *taken)
{
    struct inbox_request *request = NULL;
    mutex_lock(&inbox->lock);
    request = inbox_table_find(&inbox->table, id);
    *taken = request && (last || !request->many);
    if (*taken)
        take(inbox, id);
    else if (request)
        atomic_fetch_add(&request->references, 1);
    mutex_unlock(&inbox->lock);
    return request;
}

/* --- ending a request --- */

/* For the caller that has taken it, or has a reference. */
static void end_request(struct inbox_request *request, struct packet *reply, enum err_code code)
{
    request->on_reply(request->owner, reply, code);
    request_release(request);
}

/* --- deadlines: one for all --- */

static void arm(struct inbox *inbox, uint64_t at_ns)
{
    must_hold(&inbox->lock);
    inbox->due_ns = at_ns;
    if (clock_arm(inbox->clock, &inbox->due, at_ns))
        atomic_fetch_add(&inbox->references, 1);
}

/* NULL: none is due any more, and the deadline is armed for the next one. */
static struct inbox_request *take_due(struct inbox *inbox)
{
    struct inbox_request *request = NULL;
    mutex_lock(&inbox->lock);
    struct due *due = dues_take(&inbox->dues, clock_now_ns());
    if (due) {
        request = container_of(due, struct inbox_request, due);
        inbox_table_take(&inbox->table, request->id);
    } else {
        inbox->due_ns = dues_next_ns(&inbox->dues);
        if (inbox->due_ns != UINT64_MAX)
            arm(inbox, inbox->due_ns);
    }
    mutex_unlock(&inbox->lock);
    return request;
}

static void on_due(struct deadline *deadline)
{
    struct inbox *inbox = container_of(deadline, struct inbox, due);
    struct inbox_request *request;
    while ((request = take_due(inbox)))
        end_request(request, NULL, ERR_TIMEOUT);
    inbox_release(inbox);
}

/* --- replies --- */

static void on_message(void *owner, struct packet *packet)
{
    struct inbox *inbox = owner;
    const char *subject = packet->subject;
    uint64_t id = strncmp(subject, inbox->prefix, inbox->prefix_len) == 0
                      ? inbox_token_parse(subject + inbox->prefix_len)
                      : 0;
    bool unserved = wire_no_responders(&packet->headers, packet->len), taken = false;
    struct inbox_request *request = id ? reach_request(inbox, id, unserved, &taken) : NULL;
    if (!request) /* a second reply, or one after its deadline */
        return;
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
    BUG_ON(inbox->prefix_len + INBOX_TOKEN > REPLY_BYTES);
    inbox->link = link;
    inbox->clock = clock;
    atomic_init(&inbox->references, 1);
    atomic_init(&inbox->room, ROOM_BYTES);
    mutex_init_spinning(&inbox->lock);
    dues_init(&inbox->dues, clock_now_ns());
    inbox->due.on_due = on_due;
    inbox->due_ns = UINT64_MAX;
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

/* All fields but those of a kind of request. */
static void request_init(struct inbox_request *request, const char *subject)
{
    request->due = (struct due){.place = DUE_NOT};
    request->id = 0;
    atomic_init(&request->references, 1);
    request->on_drop = NULL;
    request->on_gone = NULL;
    request->subject = subject;
    request->data = NULL;
    request->len = 0;
    request->owned = request->many = request->safe = request->lost = false;
}

/* With the subject, and the data if it is safe, behind it. */
static struct inbox_request *request_new(const struct link_frame *frame, bool safe)
{
    size_t subject_len = strlen(frame->subject) + 1, len = safe ? frame->len : 0;
    struct inbox_request *request = malloc(sizeof *request + subject_len + len);
    if (!request)
        return NULL;
    char *bytes = (char *)(request + 1);
    request_init(request, memcpy(bytes, frame->subject, subject_len));
    request->owned = true;
    request->safe = safe;
    request->len = len;
    if (len)
        request->data = memcpy(bytes + subject_len, frame->data, len);
    return request;
}

/* With the reply subject of the request of this id. 0 or an error of link_send. */
static int send_request(struct inbox *inbox, const struct link_frame *frame, uint64_t id,
                        struct err *err)
{
    char reply[REPLY_BYTES];
    memcpy(reply, inbox->prefix, inbox->prefix_len);
    inbox_token_write(reply + inbox->prefix_len, id);
    struct link_frame with_reply = *frame;
    with_reply.reply = reply;
    return link_send(inbox->link, LANE_BULK, &with_reply, err);
}

/* It has not begun: its owner hears of it by what is returned. */
static void request_remove(struct inbox_request *request)
{
    if (request->many)
        request->on_gone = NULL;
    request_release(request);
}

/* takes: request; NULL: out of memory. */
static uint64_t begin_request(struct inbox *inbox, struct inbox_request *request,
                              const struct link_frame *frame, uint64_t deadline_ns, struct err *err)
{
    if (!request) {
        err_set(err, ERR_MEMORY, "out of memory");
        return 0;
    }
    mutex_lock(&inbox->lock);
    bool closed = inbox->closed;
    bool added = !closed && inbox_table_add(&inbox->table, request);
    uint64_t id = request->id;
    if (added) {
        dues_add(&inbox->dues, &request->due, deadline_ns);
        if (deadline_ns < inbox->due_ns)
            arm(inbox, deadline_ns);
    }
    mutex_unlock(&inbox->lock);
    if (!added) {
        request_remove(request);
        err_set(err, closed ? ERR_CLOSED : ERR_MEMORY,
                closed ? "the host is stopping" : "out of memory");
        return 0;
    }
    if (send_request(inbox, frame, id, err) == 0)
        return id;
    if (!take_request(inbox, id)) {
        /* Its deadline was that short, or the inbox closes: it has ended, by its callback, and its
         * frame is one that was dropped. */
        if (frame->gate)
            frame->gate->done(frame->gate, false);
        return id;
    }
    request_remove(request);
    return 0;
}

uint64_t inbox_request(struct inbox *inbox, const struct link_frame *frame, uint64_t deadline_ns,
                       inbox_fn on_reply, void *owner, struct err *err)
{
    struct inbox_request *request = request_new(frame, false);
    if (request) {
        request->on_reply = on_reply;
        request->owner = owner;
    }
    return begin_request(inbox, request, frame, deadline_ns, err);
}

uint64_t inbox_request_in(struct inbox *inbox, struct inbox_request *request,
                          const struct link_frame *frame, uint64_t deadline_ns, inbox_fn on_reply,
                          void (*on_gone)(void *owner), void *owner, struct err *err)
{
    if (request)
        request_init(request, frame->subject);
    else
        request = request_new(frame, false);
    if (!request) {
        on_gone(owner);
    } else {
        request->on_reply = on_reply;
        request->on_gone = on_gone;
        request->owner = owner;
    }
    return begin_request(inbox, request, frame, deadline_ns, err);
}

uint64_t inbox_request_safe(struct inbox *inbox, const struct link_frame *frame,
                            uint64_t deadline_ns, inbox_fn on_reply, void (*on_drop)(void *owner),
                            void *owner, struct err *err)
{
    struct inbox_request *request = request_new(frame, true);
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
    struct inbox_request *request = request_new(frame, false);
    if (request) {
        request->on_reply = on_reply;
        request->on_gone = on_gone;
        request->many = true;
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
    struct inbox_request *request = take_request(inbox, id);
    if (!request)
        return false;
    if (request->on_drop)
        request->on_drop(request->owner);
    request_release(request);
    return true;
}

/* Takes the first request at or after *position that goes to subject (NULL: any). */
static struct inbox_request *take_next_request(struct inbox *inbox, uint32_t *position,
                                               const char *subject)
{
    struct inbox_request *request = NULL;
    mutex_lock(&inbox->lock);
    for (; *position < inbox->table.count && !request; ++*position) {
        struct inbox_request *here = inbox->table.slots[*position].request;
        if (here && (!subject || strcmp(here->subject, subject) == 0))
            request = take(inbox, here->id);
    }
    mutex_unlock(&inbox->lock);
    return request;
}

static void end_requests(struct inbox *inbox, const char *subject, enum err_code code)
{
    uint32_t position = 0;
    struct inbox_request *request;
    while ((request = take_next_request(inbox, &position, subject)))
        end_request(request, NULL, code);
}

static void mark_lost(struct inbox *inbox)
{
    mutex_lock(&inbox->lock);
    for (uint32_t i = 0; i < inbox->table.count; i++) {
        struct inbox_request *request = inbox->table.slots[i].request;
        if (request && request->safe)
            request->lost = true;
    }
    mutex_unlock(&inbox->lock);
}

/* The first one at or after *position that was lost, with a reference. */
static struct inbox_request *next_lost(struct inbox *inbox, uint32_t *position)
{
    struct inbox_request *request = NULL;
    mutex_lock(&inbox->lock);
    for (; *position < inbox->table.count && !request; ++*position) {
        struct inbox_request *here = inbox->table.slots[*position].request;
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
    struct inbox_request *request;
    while ((request = next_lost(inbox, &position))) {
        struct link_frame frame = {
            .subject = request->subject, .data = request->data, .len = request->len};
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
    if (clock_cancel(inbox->clock, &inbox->due))
        inbox_release(inbox);
    inbox_release(inbox);
}
