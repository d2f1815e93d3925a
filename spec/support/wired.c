/* wired - see wired.h. */
#include "wired.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/pool.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/bus.h"
#include "bus/consume/consumer.h"
#include "bus/consume/delivery.h"
#include "bus/consume/subscription.h"

#define PATIENCE_NS (5 * NS_PER_S)
#define THREADS 2

struct wired {
    struct clock *clock;
    struct pool *pool;
    struct bus *bus;
    struct consumer *consumer;
    struct subscription *subscription;
    struct link_gatherer gatherer;
    int gathered; /* the delivery thread's */
    int most_at_once;
    struct mutex lock; /* the notes, `most_at_once`, and `stopped` */
    struct cond changed;
    char *notes, *copy;
    size_t size;
    FILE *out;
    bool stopped; /* the consumer */
    char trouble[512];
};

static const char *const servers[] = {"nats://broker:4222"};

__attribute__((format(printf, 2, 3))) static void note(struct wired *wired, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mutex_lock(&wired->lock);
    vfprintf(wired->out, format, arguments);
    fputc('\n', wired->out);
    fflush(wired->out);
    mutex_unlock(&wired->lock);
    va_end(arguments);
}

/* --- messages --- */

static void answer(struct wired *wired, const struct delivery *delivery)
{
    char data[256];
    int len =
        snprintf(data, sizeof data, "re:%.*s", (int)delivery->packet.len, delivery->packet.data);
    struct link_frame frame = {.subject = delivery->reply_to, .data = data, .len = (size_t)len};
    link_send(wired->bus->publish, LANE_BULK, &frame, NULL);
}

static void handle(struct wired *wired, struct delivery *delivery)
{
    if (delivery->consumer) {
        note(wired, "took %llu %llu", (unsigned long long)delivery->stream_sequence,
             (unsigned long long)delivery->attempt);
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    } else {
        note(wired, "got %s %.*s", delivery->packet.subject, (int)delivery->packet.len,
             delivery->packet.data);
        if (delivery->reply_to)
            answer(wired, delivery);
    }
    delivery_release(delivery);
}

static void on_delivery(void *owner, void *source, struct delivery *list)
{
    struct wired *wired = owner;
    int count = 0;
    (void)source;
    while (list) {
        struct delivery *next = list->next;
        handle(wired, list);
        list = next;
        count++;
    }
    mutex_lock(&wired->lock);
    if (count > wired->most_at_once)
        wired->most_at_once = count;
    mutex_unlock(&wired->lock);
}

static void on_whole(void *owner, void *source)
{
    (void)owner;
    (void)source;
}

static void on_reply(void *owner, struct packet *reply, enum err_code code)
{
    struct wired *wired = owner;
    if (reply)
        note(wired, "reply %.*s", (int)reply->len, reply->data);
    else
        note(wired, "no reply %s", err_name(code));
}

static void on_result(void *owner, const struct receipt *receipt, const struct err *err)
{
    struct wired *wired = owner;
    if (receipt)
        note(wired, "stored %llu%s", (unsigned long long)receipt->sequence,
             receipt->duplicate ? " again" : "");
    else
        note(wired, "not stored %s", err_name(err->code));
}

/* --- coming and going --- */

static bool start(struct wired *wired, struct broker_server *server, int64_t ping_interval_ns,
                  struct err *err)
{
    struct bus_options options = {
        .transport = broker_server_transport(server),
        .link = {.servers = servers,
                 .server_count = 1,
                 .ping_interval_ns = ping_interval_ns,
                 .connect_timeout_ns = NS_PER_S,
                 .reconnect_wait_ns = 20 * NS_PER_MS,
                 .reconnect_max_wait_ns = 100 * NS_PER_MS},
        .request_timeout_ns = 2 * NS_PER_S,
        .outbox = {.timeout_ns = NS_PER_S,
                   .attempts = 10,
                   .backoff = {.min_ns = 50 * NS_PER_MS, .max_ns = NS_PER_S, .factor = 2}},
    };
    struct sink sink = {.owner = wired, .on_delivery = on_delivery, .on_whole = on_whole};
    wired->clock = clock_new(err);
    wired->pool = wired->clock ? pool_new(THREADS, err) : NULL;
    wired->bus = wired->pool ? bus_new(wired->clock, wired->pool, &options, sink, err) : NULL;
    return wired->bus != NULL;
}

struct wired *wired_new(struct broker_server *server, int64_t ping_interval_ns, struct err *err)
{
    struct wired *wired = calloc(1, sizeof *wired);
    mutex_init(&wired->lock);
    cond_init(&wired->changed);
    wired->out = open_memstream(&wired->notes, &wired->size);
    if (start(wired, server, ping_interval_ns, err))
        return wired;
    wired_free(wired);
    return NULL;
}

static void on_stopped(void *source)
{
    struct wired *wired = source;
    note(wired, "stopped");
    mutex_lock(&wired->lock);
    wired->stopped = true;
    cond_broadcast(&wired->changed);
    mutex_unlock(&wired->lock);
}

/* It drains, which a server that is gone makes short. */
static void stop_consumer(struct wired *wired, uint64_t deadline_ns)
{
    wired->stopped = false;
    consumer_stop(wired->consumer, on_stopped);
    mutex_lock(&wired->lock);
    while (!wired->stopped && cond_wait_until(&wired->changed, &wired->lock, deadline_ns))
        ;
    mutex_unlock(&wired->lock);
}

bool wired_free(struct wired *wired)
{
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)PATIENCE_NS;
    if (wired->consumer)
        stop_consumer(wired, deadline_ns);
    if (wired->bus)
        bus_stop(wired->bus, deadline_ns);
    if (wired->bus && (link_stuck(wired->bus->consume) || link_stuck(wired->bus->publish)))
        return false;
    if (wired->clock)
        clock_stop(wired->clock);
    if (wired->pool)
        pool_free(wired->pool);
    if (wired->consumer)
        consumer_free(wired->consumer);
    bus_free(wired->bus);
    clock_free(wired->clock);
    fclose(wired->out);
    free(wired->notes);
    free(wired->copy);
    free(wired);
    return true;
}

bool wired_wait_connected(struct wired *wired, int64_t timeout_ns)
{
    return bus_wait_connected(wired->bus, clock_now_ns() + (uint64_t)timeout_ns);
}

const char *wired_trouble(struct wired *wired)
{
    link_trouble(wired->bus->publish, wired->trouble, sizeof wired->trouble);
    return wired->trouble;
}

void wired_ask_rtt(struct wired *wired)
{
    link_ask_rtt(wired->bus->consume);
    link_ask_rtt(wired->bus->publish);
}

size_t wired_waiting(struct wired *wired)
{
    return link_pending(wired->bus->publish);
}

bool wired_flush(struct wired *wired, int64_t timeout_ns)
{
    return bus_flush(wired->bus, clock_now_ns() + (uint64_t)timeout_ns);
}

/* --- what a host does --- */

bool wired_api(struct wired *wired, const char *operation, const char *request, struct err *err)
{
    cJSON *json = request ? cJSON_Parse(request) : NULL;
    cJSON *reply = jsapi_wait(wired->bus->jsapi, operation, json,
                              clock_now_ns() + (uint64_t)PATIENCE_NS, NULL, err);
    cJSON_Delete(json);
    cJSON_Delete(reply);
    return reply != NULL;
}

bool wired_subscribe(struct wired *wired, const char *subject, struct err *err)
{
    wired->subscription = subscription_new(&wired->bus->intake, subject, NULL, wired, err);
    return wired->subscription != NULL;
}

static void on_gathered(void *owner, struct packet *packet)
{
    struct wired *wired = owner;
    (void)packet;
    wired->gathered++;
    link_at_read_end(wired->bus->consume, &wired->gatherer);
}

static void on_read_end(struct link_gatherer *gatherer)
{
    struct wired *wired = container_of(gatherer, struct wired, gatherer);
    note(wired, "read %d", wired->gathered);
    wired->gathered = 0;
}

bool wired_gather(struct wired *wired, const char *subject, struct err *err)
{
    wired->gatherer.on_read_end = on_read_end;
    return link_subscribe(wired->bus->consume, subject, NULL, on_gathered, wired, err) != NULL;
}

void wired_unsubscribe(struct wired *wired)
{
    subscription_stop(wired->subscription, on_stopped);
}

bool wired_request(struct wired *wired, const char *subject, const char *data, int64_t timeout_ns,
                   struct err *err)
{
    struct link_frame frame = {.subject = subject, .data = data, .len = strlen(data)};
    return inbox_request(wired->bus->inbox, &frame, clock_now_ns() + (uint64_t)timeout_ns, on_reply,
                         wired, err) != 0;
}

bool wired_publish(struct wired *wired, const char *subject, const char *data, const char *id,
                   struct err *err)
{
    struct outbox_message message = {.subject = subject,
                                     .data = data,
                                     .len = strlen(data),
                                     .id = id ? span_of(id) : (struct span){0}};
    return outbox_publish(wired->bus->outbox, &message, on_result, wired, err) == 0;
}

bool wired_consume(struct wired *wired, const char *stream, const char *durable,
                   int64_t ack_wait_ns, struct err *err)
{
    struct consumer_spec spec = {.stream = stream,
                                 .durable = durable,
                                 .ack_wait_ns = ack_wait_ns,
                                 .ack_wait_stated = true,
                                 .concurrency = 10};
    struct consumer *consumer = consumer_new(&wired->bus->intake, &spec, NULL, wired, err);
    if (!consumer)
        return false;
    if (consumer_ensure(consumer, false, clock_now_ns() + (uint64_t)PATIENCE_NS, err) != 0) {
        consumer_free(consumer);
        return false;
    }
    wired->consumer = consumer;
    return consumer_start(consumer, err) == 0;
}

/* --- what happened --- */

int wired_most_at_once(struct wired *wired)
{
    mutex_lock(&wired->lock);
    int most = wired->most_at_once;
    mutex_unlock(&wired->lock);
    return most;
}

int wired_count(struct wired *wired, const char *beginning)
{
    int count = 0;
    size_t len = strlen(beginning);
    mutex_lock(&wired->lock);
    for (const char *at = wired->notes; at && *at; at = strchr(at, '\n') + 1)
        count += strncmp(at, beginning, len) == 0;
    mutex_unlock(&wired->lock);
    return count;
}

const char *wired_notes(struct wired *wired)
{
    mutex_lock(&wired->lock);
    free(wired->copy);
    wired->copy = strdup(wired->notes ? wired->notes : "");
    mutex_unlock(&wired->lock);
    return wired->copy;
}
