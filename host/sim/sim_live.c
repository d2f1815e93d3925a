/* sim_live - a host beside a real server, in the place of a world: time is real, and what happens
 * is waited for. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "bus/ack_subject.h"
#include "bus/packet.h"
#include "sim/sim_private.h"

/* So long at most nothing is looked at: an op of the host, as a timer, is no change that is told.
 */
#define LOOK_NS ((uint64_t)5 * (uint64_t)NS_PER_MS)

/* All that was sent so far has arrived: what the host has sent at the server, and what is for the
 * client beside it there. */
bool sim_live_settle(struct sim *sim)
{
    sim_flush_hosts(sim);
    sim->real->flush(sim->real->owner);
    return true;
}

bool sim_live_step(struct sim *sim, uint64_t until_ns)
{
    uint64_t look_ns = clock_now_ns() + LOOK_NS;
    mutex_lock(&sim->lock);
    cond_wait_until(&sim->changed, &sim->lock, look_ns < until_ns ? look_ns : until_ns);
    mutex_unlock(&sim->lock);
    return true;
}

void sim_live_publish(struct sim *sim, const struct sim_message *message)
{
    sim->real->publish(sim->real->owner, message);
}

/* --- messages that have been delivered before, as tests say --- */

struct redelivered {
    struct redelivered *next;
    char *stream, *durable; /* owned */
    unsigned before;
    uint64_t sequence; /* of the message; 0: the next new one */
};

void sim_live_count_from(struct sim *sim, const char *stream, const char *durable,
                         uint64_t deliveries)
{
    struct redelivered *added = calloc(1, sizeof *added);
    if (!added)
        return;
    added->stream = strdup(stream);
    added->durable = strdup(durable);
    added->before = (unsigned)deliveries;
    sim_guard(sim);
    LL_PREPEND(sim->redelivered, added);
    sim_unguard(sim);
}

void sim_live_free(struct sim *sim)
{
    struct redelivered *each, *next;
    LL_FOREACH_SAFE(sim->redelivered, each, next) {
        free(each->stream);
        free(each->durable);
        free(each);
    }
    sim->redelivered = NULL;
}

static bool is_of(struct redelivered *each, const struct ack_subject *ack)
{
    if (!span_equals(ack->stream, each->stream) || !span_equals(ack->consumer, each->durable))
        return false;
    if (!each->sequence && ack->delivered == 1)
        each->sequence = ack->stream_sequence;
    return each->sequence == ack->stream_sequence;
}

/* The host gets another digit, which is behind the consumer's name; with it its verdict comes back,
 * of which the server reads the sequences. */
void sim_live_recount(struct sim *sim, struct packet *packet)
{
    struct ack_subject ack;
    struct redelivered *each;
    if (sim->world || !ack_subject_read(packet->reply, &ack) || ack.delivered > 9)
        return;
    sim_guard(sim);
    LL_FOREACH(sim->redelivered, each) {
        if (is_of(each, &ack))
            break;
    }
    char *digit = (char *)ack.consumer.at + ack.consumer.len + 1;
    if (each && ack.delivered + each->before <= 9)
        *digit = (char)(*digit + each->before);
    sim_unguard(sim);
}
