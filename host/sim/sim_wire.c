/* sim_wire - the server of the world and what goes to it: its faults, who watches what hosts send,
 * and a client beside the hosts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "base/value.h"
#include "bus/link/nats_transport.h"
#include "bus/link/transport.h"
#include "sim/sim_private.h"

/* --- what hosts send, and what of a durable comes to them, is noted --- */

/* One host's: makes the broker's transports, and sees what goes through them. */
struct spy {
    struct spy *next;
    struct transport_maker maker;
    const struct transport_kind *real; /* the broker's, or that of nats.c; NULL: none is made yet */
    struct transport_kind kind;        /* the same, but for what is noted */
    struct sim *sim;                   /* not owned */
    char sent[16], got[16];            /* the kinds of its notes: "sent2" is the second host's */
};

static bool is_noted(const struct sim *sim, const char *subject)
{
    return sim->wire_notes && strncmp(subject, sim->wire_notes, strlen(sim->wire_notes)) == 0;
}

static struct spy *spy_of(const struct transport *transport)
{
    return container_of((struct transport_kind *)transport->kind, struct spy, kind);
}

static enum transport_sent note_and_publish(struct transport *transport,
                                            const struct transport_message *message,
                                            const char **why)
{
    const struct spy *spy = spy_of(transport);
    char subject[TRANSPORT_LINE_MAX];
    if (spy->sim->wire_notes && is_noted(spy->sim, transport_text(message->subject, subject)))
        sim_note(spy->sim, spy->sent, "%s %.*s", subject, (int)message->data.len, message->data.at);
    if (sim_sent(spy->sim, message))
        return TRANSPORT_SENT;
    return spy->real->publish(transport, message, why);
}

/* What the host handles with; freed in its on_end. */
struct spied_sub {
    struct transport_handler inner;
    const struct spy *spy; /* not owned */
};

static void note_and_hand_on(void *owner, struct packet *packet)
{
    const struct spied_sub *spied = owner;
    sim_live_recount(spied->spy->sim, packet);
    if (packet->reply && strncmp(packet->reply, "$JS.ACK.", 8) == 0 &&
        is_noted(spied->spy->sim, packet->reply))
        sim_note(spied->spy->sim, spied->spy->got, "%s", packet->reply);
    spied->inner.on_message(spied->inner.owner, packet);
}

static void end_spied(void *owner)
{
    struct spied_sub *spied = owner;
    spied->inner.on_end(spied->inner.owner);
    free(spied);
}

static enum transport_subscribed spy_and_subscribe(struct transport *transport, const char *subject,
                                                   const char *queue,
                                                   const struct transport_handler *handler,
                                                   struct transport_sub **sub, const char **why)
{
    struct spied_sub *spied = malloc(sizeof *spied);
    const struct spy *spy = spy_of(transport);
    *spied = (struct spied_sub){*handler, spy};
    const struct transport_handler mine = {spied, note_and_hand_on, end_spied};
    enum transport_subscribed made =
        spy->real->subscribe(transport, subject, queue, &mine, sub, why);
    if (made == TRANSPORT_UNSUBSCRIBED)
        free(spied);
    return made; /* ASTRAY: a last call may still read it */
}

static struct transport *make_spied(const struct transport_maker *maker,
                                    const struct link_options *options, struct clock *clock,
                                    const struct transport_events *events, struct err *err)
{
    struct spy *spy = container_of((struct transport_maker *)maker, struct spy, maker);
    const struct transport_maker *inner =
        spy->sim->world ? broker_server_transport(spy->sim->server) : &nats_transport_maker;
    struct transport *transport = inner->make(inner, options, clock, events, err);
    if (!transport)
        return NULL;
    if (!spy->real) { /* once: the thread of its first link reads it by the next time */
        spy->real = transport->kind;
        spy->kind = *spy->real;
        spy->kind.publish = note_and_publish;
        spy->kind.subscribe = spy_and_subscribe;
    }
    transport->kind = &spy->kind;
    return transport;
}

const struct transport_maker *sim_transport(struct sim *sim, int host)
{
    struct spy *spy = calloc(1, sizeof *spy);
    spy->maker.make = make_spied;
    spy->sim = sim;
    snprintf(spy->sent, sizeof spy->sent, "sent%d", host);
    snprintf(spy->got, sizeof spy->got, "got%d", host);
    LL_PREPEND(sim->spies, spy);
    return &spy->maker;
}

void sim_wire_free(struct sim *sim)
{
    struct spy *spy, *next;
    LL_FOREACH_SAFE(sim->spies, spy, next)
        free(spy);
}

/* --- what comes from outside, before it is sent --- */

struct outside_message {
    struct sim *sim; /* not owned */
    uint64_t at_ns;
    char *subject, *reply, *headers, *data; /* owned; reply and headers may be NULL */
    size_t len;
    struct outside_message *next; /* of sim->late */
};

static void free_outside(struct outside_message *out)
{
    free(out->subject);
    free(out->reply);
    free(out->headers);
    free(out->data);
    free(out);
}

/* --- its beginning and end, on a fiber --- */

bool sim_wait_until(struct sim *sim, uint64_t until_ns)
{
    mutex_lock(&sim->lock);
    sim->waiting++;
    while (!sim->closing && clock_now_ns() < until_ns)
        cond_wait_until(&sim->changed, &sim->lock, until_ns);
    bool goes_on = !sim->closing;
    sim->waiting--;
    cond_broadcast(&sim->changed);
    mutex_unlock(&sim->lock);
    return goes_on;
}

static void *make_server(void *arg)
{
    struct sim *sim = arg;
    const struct broker_options options = {
        .seed = sim->seed, .max_payload = sim->max_payload, .any_thread = sim->any_thread};
    struct err err;
    sim->server = broker_server_new(&options, &err);
    struct broker *broker = broker_server_lock(sim->server);
    sim->outside = broker_connect(broker);
    broker_subscribe(sim->outside, 1, "_OUTSIDE.>", NULL, NULL);
    broker_server_unlock(sim->server);
    return NULL;
}

void sim_wire_open(struct sim *sim)
{
    mutex_init(&sim->lock);
    cond_init(&sim->changed);
    if (sim->world)
        sim_call(sim, "main", make_server, sim);
}

static void *free_server(void *arg)
{
    struct sim *sim = arg;
    struct outside_message *out;
    mutex_lock(&sim->lock);
    sim->closing = true;
    cond_broadcast(&sim->changed);
    while (sim->waiting > 0)
        cond_wait(&sim->changed, &sim->lock);
    mutex_unlock(&sim->lock);
    while ((out = sim->late)) {
        LL_DELETE(sim->late, out);
        free_outside(out);
    }
    if (sim->server)
        broker_server_free(sim->server);
    return NULL;
}

bool sim_close(struct sim *sim)
{
    bool closed = sim_call(sim, "main", free_server, sim);
    sim->server = NULL;
    free(sim->came);
    sim->came = NULL;
    return closed;
}

/* --- a client beside the hosts --- */

/* A server that is frozen or away has it when it goes on, and counts all times from then. */
static bool is_late(struct outside_message *out)
{
    struct sim *sim = out->sim;
    mutex_lock(&sim->lock);
    bool late = sim->freezing + sim->downs > 0;
    if (late)
        LL_APPEND(sim->late, out);
    mutex_unlock(&sim->lock);
    return late;
}

static void give_to_server(struct outside_message *out)
{
    const struct broker_message message = {
        .subject = out->subject,
        .reply = out->reply,
        .headers = out->headers,
        .headers_len = out->headers ? strlen(out->headers) : 0,
        .data = out->data,
        .len = out->len,
    };
    broker_server_lock(out->sim->server);
    broker_publish(out->sim->outside, &message, NULL);
    broker_server_unlock(out->sim->server);
}

static void *publish(void *arg)
{
    struct outside_message *out = arg;
    const struct sim_message sent = {.subject = out->subject,
                                     .reply = out->reply,
                                     .headers = out->headers,
                                     .headers_len = out->headers ? strlen(out->headers) : 0,
                                     .data = out->data,
                                     .len = out->len};
    if (!sim_wait_until(out->sim, out->at_ns)) {
        /* it is being closed */
    } else if (!out->sim->world) {
        sim_live_publish(out->sim, &sent);
    } else if (is_late(out)) {
        return NULL;
    } else {
        give_to_server(out);
    }
    free_outside(out);
    return NULL;
}

/* Lock held. */
static void publish_late(struct sim *sim)
{
    struct outside_message *out;
    must_hold(&sim->lock);
    while (sim->freezing + sim->downs == 0 && (out = sim->late)) {
        LL_DELETE(sim->late, out);
        give_to_server(out);
        free_outside(out);
    }
}

static void *publish_later(void *arg)
{
    struct thread thread;
    thread_start(&thread, "outside", publish, arg, NULL);
    thread_detach(thread);
    return NULL;
}

void sim_publish(struct sim *sim, double after_ms, const char *subject, const char *reply,
                 const char *headers, const char *data, size_t len)
{
    struct outside_message *out = calloc(1, sizeof *out);
    out->sim = sim;
    out->at_ns = sim_now_ns(sim) + (uint64_t)(after_ms * NS_PER_MS);
    out->subject = strdup(subject);
    out->reply = reply ? strdup(reply) : NULL;
    out->headers = headers ? strdup(headers) : NULL;
    out->data = malloc(len + 1);
    memcpy(out->data, data, len);
    out->len = len;
    sim_call(sim, "outside", after_ms > 0 ? publish_later : publish, out);
}

static void *take(void *arg)
{
    struct sim *sim = arg;
    broker_server_lock(sim->server);
    sim->came = broker_take(sim->outside);
    broker_server_unlock(sim->server);
    return NULL;
}

bool sim_take(struct sim *sim, struct sim_message *out)
{
    if (!sim->world)
        return sim->real->take(sim->real->owner, out);
    free(sim->came);
    sim->came = NULL;
    if (!sim_call(sim, "outside", take, sim) || !sim->came)
        return false;
    const struct broker_message *message = &sim->came->message;
    *out = (struct sim_message){
        .subject = message->subject,
        .reply = message->reply,
        .headers = message->headers,
        .data = message->data ? message->data : "",
        .headers_len = message->headers_len,
        .len = message->len,
    };
    return true;
}

/* --- faults --- */

/* One that ends by itself. */
struct fault {
    struct sim *sim; /* not owned */
    void (*set)(struct fault *fault, bool on);
    uint64_t until_ns;
    int link, skip, count;
    enum broker_loss loss;
    const char *subject;
};

/* One after the other: they count how many are under way. */
static void set_fault(struct fault *fault, bool on)
{
    mutex_lock(&fault->sim->lock);
    fault->set(fault, on);
    mutex_unlock(&fault->sim->lock);
}

static void *end_fault(void *arg)
{
    struct fault *fault = arg;
    if (sim_wait_until(fault->sim, fault->until_ns))
        set_fault(fault, false);
    free(fault);
    return NULL;
}

static void *begin_fault(void *arg)
{
    struct fault *fault = arg;
    struct thread thread;
    set_fault(fault, true);
    if (fault->until_ns > clock_now_ns() &&
        thread_start(&thread, "fault", end_fault, fault, NULL) == 0) {
        thread_detach(thread);
    } else {
        set_fault(fault, false);
        free(fault);
    }
    return NULL;
}

static void do_fault(struct sim *sim, struct fault given, double ms)
{
    struct fault *fault = malloc(sizeof *fault);
    *fault = given;
    fault->sim = sim;
    fault->until_ns = world_now_ns(sim->world) + (uint64_t)(ms * NS_PER_MS);
    sim_call(sim, "fault", begin_fault, fault);
}

/* Several may be under way: the last one that ends ends it. */
static void set_cut(struct fault *fault, bool on)
{
    struct sim *sim = fault->sim;
    sim->refusing += on ? 1 : -1;
    if (on) {
        broker_server_refuse(sim->server, "cut off");
        broker_server_cut(sim->server, fault->link, fault->loss);
    } else if (sim->refusing == 0) {
        broker_server_refuse(sim->server, NULL);
    }
}

void sim_cut(struct sim *sim, int link, int loss, double back_ms)
{
    do_fault(sim, (struct fault){.set = set_cut, .link = link, .loss = (enum broker_loss)loss},
             back_ms);
}

static void set_frozen(struct fault *fault, bool on)
{
    struct sim *sim = fault->sim;
    sim->freezing += on ? 1 : -1;
    broker_server_freeze(sim->server, sim->freezing > 0);
    publish_late(sim);
}

void sim_freeze(struct sim *sim, double ms)
{
    do_fault(sim, (struct fault){.set = set_frozen}, ms);
}

static void set_down(struct fault *fault, bool on)
{
    struct sim *sim = fault->sim;
    sim->downs += on ? 1 : -1;
    broker_server_down(sim->server, sim->downs > 0);
    publish_late(sim);
}

void sim_down(struct sim *sim, double ms)
{
    do_fault(sim, (struct fault){.set = set_down}, ms);
}

static void set_losing(struct fault *fault, bool on)
{
    if (on)
        broker_server_lose(fault->sim->server, fault->subject, fault->count);
}

void sim_lose(struct sim *sim, const char *subject, int count)
{
    do_fault(sim, (struct fault){.set = set_losing, .subject = subject, .count = count}, 0);
}

int sim_losses_left(struct sim *sim)
{
    return broker_server_losses_left(sim->server);
}

static void set_losing_in(struct fault *fault, bool on)
{
    if (on)
        broker_server_lose_in(fault->sim->server, fault->subject, fault->skip, fault->count);
}

void sim_lose_in(struct sim *sim, const char *subject, int skip, int count)
{
    struct fault fault = {.set = set_losing_in, .subject = subject, .skip = skip, .count = count};
    do_fault(sim, fault, 0);
}

static void set_delay(struct fault *fault, bool on)
{
    uint64_t ns = on ? (uint64_t)fault->count * (uint64_t)NS_PER_MS : 0;
    fault->sim->delays += on ? 1 : -1;
    if (on || fault->sim->delays == 0)
        broker_server_delay(fault->sim->server, ns, ns);
}

void sim_delay(struct sim *sim, int each_ms, double ms)
{
    do_fault(sim, (struct fault){.set = set_delay, .count = each_ms}, ms);
}
