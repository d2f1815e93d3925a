/* sim_sent - what hosts send, kept for who looks at it; and NAKs that wait on their way, so that
 * what they put back does not come again before it is wanted. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "bus/link/transport.h"
#include "sim/sim_private.h"

/* One block of memory with its texts. */
struct sent_message {
    struct sent_message *prev, *next; /* utlist */
    struct sim_message message;
    char bytes[];
};

/* Requests to it go no further. */
struct diversion {
    struct diversion *next;
    char pattern[];
};

static const char *put(char **at, struct span bytes)
{
    char *copy = *at;
    memcpy(copy, bytes.at ? bytes.at : "", bytes.len);
    copy[bytes.len] = '\0';
    *at += bytes.len + 1;
    return copy;
}

static struct sent_message *copy_of(const struct transport_message *message)
{
    struct sent_message *sent = malloc(sizeof *sent + message->wire.len + 4);
    if (!sent)
        return NULL;
    char *at = sent->bytes;
    const char *subject = put(&at, message->subject);
    const char *reply = put(&at, message->reply);
    const char *headers = put(&at, message->headers);
    sent->message = (struct sim_message){
        .subject = subject,
        .reply = message->reply.at ? reply : NULL,
        .headers = headers,
        .headers_len = message->headers.len,
        .data = put(&at, message->data),
        .len = message->data.len,
    };
    return sent;
}

static bool is_nak(const struct transport_message *message)
{
    return span_begins(message->subject, "$JS.ACK.") && span_begins(message->data, "-NAK");
}

/* Requests alone: whoever asks gets the answer of who diverts. */
static bool is_diverted(const struct sim *sim, const struct transport_message *message)
{
    const struct diversion *diversion;
    char subject[TRANSPORT_LINE_MAX];
    if (!message->reply.at)
        return false;
    if (sim->diverts_all && !span_begins(message->subject, "$JS."))
        return true;
    transport_text(message->subject, subject);
    LL_FOREACH(sim->diversions, diversion) {
        if (subject_matches(diversion->pattern, subject))
            return true;
    }
    return false;
}

bool sim_sent(struct sim *sim, const struct transport_message *message)
{
    struct sent_message *sent = sim->keeps_sent ? copy_of(message) : NULL;
    sim_guard(sim);
    if (sent) {
        sent->message.diverted = is_diverted(sim, message);
        DL_APPEND(sim->sent, sent);
    }
    struct sent_message *held = sim->holds_naks && is_nak(message) ? copy_of(message) : NULL;
    if (held)
        DL_APPEND(sim->held, held);
    bool stays = held || (sent && sent->message.diverted);
    sim_unguard(sim);
    return stays;
}

void sim_divert(struct sim *sim, const char *pattern)
{
    struct diversion *diversion = malloc(sizeof *diversion + strlen(pattern) + 1);
    if (!diversion)
        return;
    strcpy(diversion->pattern, pattern);
    sim_guard(sim);
    LL_PREPEND(sim->diversions, diversion);
    sim_unguard(sim);
}

void sim_calm(struct sim *sim, int times)
{
    sim->calm = times;
}

void sim_divert_all(struct sim *sim)
{
    sim->diverts_all = true;
}

void sim_keep_sent(struct sim *sim)
{
    sim->keeps_sent = true;
}

bool sim_take_sent(struct sim *sim, struct sim_message *out)
{
    free(sim->shown);
    sim_guard(sim);
    sim->shown = sim->sent;
    if (sim->shown)
        DL_DELETE(sim->sent, sim->shown);
    sim_unguard(sim);
    if (!sim->shown)
        return false;
    *out = sim->shown->message;
    return true;
}

static void free_list(struct sent_message *list)
{
    struct sent_message *sent, *next;
    DL_FOREACH_SAFE(list, sent, next)
        free(sent);
}

void sim_sent_free(struct sim *sim)
{
    free_list(sim->sent);
    free_list(sim->held);
    free(sim->shown);
    struct diversion *diversion, *next;
    LL_FOREACH_SAFE(sim->diversions, diversion, next)
        free(diversion);
}

/* --- what waits --- */

static void *send_held(void *arg)
{
    struct sim *sim = arg;
    const struct sent_message *held;
    if (!sim->world) {
        DL_FOREACH(sim->held, held)
            sim_live_publish(sim, &held->message);
        free_list(sim->held);
        sim->held = NULL;
        return NULL;
    }
    broker_server_lock(sim->server);
    DL_FOREACH(sim->held, held) {
        const struct broker_message message = {
            .subject = held->message.subject,
            .reply = held->message.reply,
            .data = held->message.data,
            .len = held->message.len,
        };
        broker_publish(sim->outside, &message, NULL);
    }
    broker_server_unlock(sim->server);
    free_list(sim->held);
    sim->held = NULL;
    return NULL;
}

bool sim_hold_naks(struct sim *sim, bool hold)
{
    sim_guard(sim);
    sim->holds_naks = hold;
    sim_unguard(sim);
    return hold || !sim->held || sim_call(sim, "outside", send_held, sim);
}

/* --- what the server knows of durables --- */

struct durable_count {
    struct sim *sim;
    const char *stream, *durable;
    uint64_t count;
    bool known;
};

static void *set_count(void *arg)
{
    struct durable_count *job = arg;
    struct broker *broker = broker_server_lock(job->sim->server);
    job->known = broker_count_from(broker, job->stream, job->durable, job->count);
    broker_server_unlock(job->sim->server);
    return NULL;
}

bool sim_count_from(struct sim *sim, const char *stream, const char *durable, uint64_t deliveries)
{
    struct durable_count job = {sim, stream, durable, deliveries, false};
    if (!sim->world) {
        sim_live_count_from(sim, stream, durable, deliveries);
        return true;
    }
    return sim_call(sim, "outside", set_count, &job) && job.known;
}

struct placing {
    struct sim *sim;
    const struct sim_placed *placed;
    bool done;
};

static void *place(void *arg)
{
    struct placing *job = arg;
    const struct sim_placed *placed = job->placed;
    const struct broker_placed there = {
        .stream = placed->stream,
        .durable = placed->durable,
        .sequence = placed->sequence,
        .timestamp_ns = placed->timestamp_ns,
        .message = {.subject = placed->subject,
                    .headers = placed->headers,
                    .headers_len = placed->headers_len,
                    .data = placed->data,
                    .len = placed->len},
    };
    job->done = broker_place(broker_server_lock(job->sim->server), &there);
    broker_server_unlock(job->sim->server);
    return NULL;
}

bool sim_place(struct sim *sim, const struct sim_placed *placed)
{
    struct placing job = {sim, placed, false};
    return sim->world && sim_call(sim, "outside", place, &job) && job.done;
}

static void *count_unsettled(void *arg)
{
    struct durable_count *job = arg;
    job->count = broker_unsettled(broker_server_lock(job->sim->server));
    broker_server_unlock(job->sim->server);
    return NULL;
}

uint64_t sim_unsettled(struct sim *sim)
{
    struct durable_count job = {.sim = sim};
    if (!sim->world)
        return 0;
    return sim_call(sim, "outside", count_unsettled, &job) ? job.count : 0;
}
