/* The state machine of a delivery. */
#include "bus/consume/delivery_state.h"

#include "base/bug.h"

/* Whether it may be read or written without the lock is up to the field, not to the caller. */
#define load(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

static bool move_on(struct delivery_state *state, enum delivery_phase from, enum delivery_phase to)
{
    int expected = (int)from;
    return __atomic_compare_exchange_n(&state->phase, &expected, (int)to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

void delivery_state_init(struct delivery_state *state, uint64_t now_ns)
{
    state->phase = DELIVERY_OPEN;
    state->renewed_ns = now_ns;
}

/* --- the phase --- */

bool delivery_state_settle(struct delivery_state *state, enum verdict verdict)
{
    static const enum delivery_phase ends[] = {
        [VERDICT_ACK] = DELIVERY_ACKED,
        [VERDICT_NAK] = DELIVERY_NAKED,
        [VERDICT_TERM] = DELIVERY_TERMED,
    };
    BUG_ON(verdict == VERDICT_NONE);
    return move_on(state, DELIVERY_OPEN, ends[verdict]);
}

bool delivery_state_begin_letter(struct delivery_state *state)
{
    return move_on(state, DELIVERY_OPEN, DELIVERY_LETTER);
}

bool delivery_state_end_letter(struct delivery_state *state, enum delivery_phase end)
{
    BUG_ON(end != DELIVERY_STORED && end != DELIVERY_UNSTORED && end != DELIVERY_DROPPED);
    return move_on(state, DELIVERY_LETTER, end);
}

bool delivery_state_begin_copy(struct delivery_state *state)
{
    return move_on(state, DELIVERY_OPEN, DELIVERY_COPYING);
}

bool delivery_state_end_copy(struct delivery_state *state, enum delivery_phase end)
{
    BUG_ON(end != DELIVERY_COPIED && end != DELIVERY_NAKED);
    return move_on(state, DELIVERY_COPYING, end);
}

enum delivery_phase delivery_state_phase(const struct delivery_state *state)
{
    return (enum delivery_phase)load(state->phase);
}

unsigned delivery_state_joined(const struct delivery_state *state)
{
    return load(state->joined);
}

bool delivery_state_is_taken(const struct delivery_state *state)
{
    return delivery_state_phase(state) != DELIVERY_OPEN;
}

bool delivery_state_is_letters(const struct delivery_state *state)
{
    enum delivery_phase phase = delivery_state_phase(state);
    return phase == DELIVERY_LETTER || (phase >= DELIVERY_STORED && phase <= DELIVERY_DROPPED);
}

bool delivery_state_is_copied(const struct delivery_state *state)
{
    return delivery_state_phase(state) >= DELIVERY_COPYING;
}

enum verdict delivery_state_verdict(const struct delivery_state *state)
{
    switch (delivery_state_phase(state)) {
    case DELIVERY_ACKED:
    case DELIVERY_COPIED:
        return VERDICT_ACK;
    case DELIVERY_NAKED:
    case DELIVERY_UNSTORED:
        return VERDICT_NAK;
    case DELIVERY_TERMED:
    case DELIVERY_STORED:
    case DELIVERY_DROPPED:
        return VERDICT_TERM;
    case DELIVERY_OPEN:
    case DELIVERY_LETTER:
    case DELIVERY_COPYING:
        break;
    }
    return VERDICT_NONE;
}

bool delivery_state_is_done(const struct delivery_state *state)
{
    enum verdict verdict = delivery_state_verdict(state);
    return verdict == VERDICT_ACK || verdict == VERDICT_TERM;
}

/* --- the lease --- */

bool delivery_state_in_time(const struct delivery_state *state, uint64_t ack_wait_ns,
                            uint64_t now_ns)
{
    return now_ns < state->renewed_ns + ack_wait_ns;
}

bool delivery_state_lapse(struct delivery_state *state, uint64_t ack_wait_ns, uint64_t now_ns,
                          bool *news)
{
    if (!state->lost && !delivery_state_in_time(state, ack_wait_ns, now_ns)) {
        state->lost = true;
        *news = true;
    }
    return state->lost;
}

void delivery_state_join(struct delivery_state *state, bool known, uint64_t now_ns)
{
    if (known) {
        state->renewed_ns = now_ns;
        state->lost = false;
    }
    __atomic_store_n(&state->joined, state->joined + 1, __ATOMIC_RELEASE);
}

/* --- what is sent --- */

enum verdict delivery_state_frame(const struct delivery_state *state)
{
    enum verdict verdict = delivery_state_verdict(state);
    if (!state->lost || verdict == VERDICT_ACK)
        return verdict;
    return delivery_state_instead(state);
}

enum verdict delivery_state_instead(const struct delivery_state *state)
{
    return delivery_state_phase(state) == DELIVERY_STORED ? VERDICT_ACK : VERDICT_NONE;
}

bool delivery_state_beat(struct delivery_state *state)
{
    if (state->beating)
        return false;
    state->beating = true;
    state->beat_of = state->joined;
    return true;
}

bool delivery_state_beat_wanted(struct delivery_state *state, uint64_t ack_wait_ns, uint64_t now_ns,
                                bool *news)
{
    return delivery_state_verdict(state) == VERDICT_NONE && state->beat_of == state->joined &&
           !delivery_state_lapse(state, ack_wait_ns, now_ns, news);
}

void delivery_state_beat_ended(struct delivery_state *state, bool sent, uint64_t now_ns)
{
    state->beating = false;
    if (sent && state->beat_of == state->joined)
        state->renewed_ns = now_ns;
}

/* --- its place in the credit --- */

bool delivery_state_park(struct delivery_state *state, bool parked)
{
    if (state->parked == parked || delivery_state_verdict(state) != VERDICT_NONE)
        return false;
    state->parked = parked;
    return true;
}
