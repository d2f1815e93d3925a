/* source_state - one function for each transition; source_state.h has the drawing. */
#include "engine/source/source_state.h"

void source_state_init(struct source_state *state, enum source_brings brings)
{
    *state = (struct source_state){.phase = SOURCE_IDLE, .brings = brings};
}

void source_state_start(struct source_state *state)
{
    if (state->phase == SOURCE_IDLE)
        state->phase = SOURCE_SERVING;
}

void source_state_fail(struct source_state *state)
{
    state->phase = SOURCE_STOPPED;
}

static bool drains(const struct source_state *state)
{
    return state->brings == SOURCE_BRINGS_MESSAGES || state->brings == SOURCE_BRINGS_DELIVERIES ||
           state->brings == SOURCE_BRINGS_NOTHING;
}

enum source_stop source_state_stop(struct source_state *state)
{
    if (state->brings == SOURCE_BRINGS_START)
        state->owed = 0; /* one that has not begun will not */
    if (state->phase != SOURCE_SERVING || state->brings == SOURCE_BRINGS_STOP)
        return SOURCE_STOP_NOTHING;
    state->phase = drains(state) ? SOURCE_STOPPING : SOURCE_STOPPED;
    return drains(state) ? SOURCE_STOP_DRAIN : SOURCE_STOP_ENDED;
}

void source_state_drained(struct source_state *state)
{
    state->phase = SOURCE_STOPPED;
}

void source_state_late(struct source_state *state)
{
    state->late = state->phase == SOURCE_STOPPING;
}

bool source_state_cancel(struct source_state *state)
{
    if (state->phase != SOURCE_SERVING || state->brings != SOURCE_BRINGS_TICKS)
        return false;
    state->phase = SOURCE_STOPPED;
    state->owed = 0;
    return true;
}

static bool has_room(const struct source_state *state, size_t bytes)
{
    return state->queued < state->rules.messages &&
           state->queued_bytes + bytes <= state->rules.bytes;
}

enum source_fate source_state_fate(const struct source_state *state, size_t bytes, bool waits)
{
    if (state->phase == SOURCE_STOPPED)
        return SOURCE_HAND_BACK;
    if (state->brings == SOURCE_BRINGS_DELIVERIES)
        return state->phase == SOURCE_STOPPING ? SOURCE_PART : SOURCE_QUEUE;
    if (state->late)
        return SOURCE_HAND_BACK;
    if (has_room(state, bytes))
        return SOURCE_QUEUE;
    return state->rules.drop_old && waits ? SOURCE_MAKE_ROOM : SOURCE_DROP;
}

void source_state_queue(struct source_state *state, size_t bytes)
{
    state->queued++;
    state->queued_bytes += bytes;
}

void source_state_unqueue(struct source_state *state, size_t bytes)
{
    state->queued--;
    state->queued_bytes -= bytes;
}

int source_state_empty(struct source_state *state)
{
    int queued = state->queued;
    state->queued = 0;
    state->queued_bytes = 0;
    return queued;
}

bool source_state_tick(struct source_state *state)
{
    if (state->phase != SOURCE_SERVING || state->owed > 0 || state->running > 0)
        return false;
    state->owed = 1;
    return true;
}

bool source_state_owe(struct source_state *state)
{
    if (state->phase != SOURCE_SERVING)
        return false;
    state->owed = 1;
    return true;
}

bool source_state_may_begin(const struct source_state *state, bool waits)
{
    const struct source_rules *rules = &state->rules;
    if (rules->limit && state->running >= rules->limit)
        return false;
    if (state->owed > 0)
        return true;
    if (!waits || !rules->batch)
        return waits;
    return state->queued >= rules->batch || state->batch_due ||
           state->queued_bytes >= rules->batch_bytes;
}

int source_state_share(const struct source_state *state, int shares, int most)
{
    int limit = state->rules.limit, places = limit - state->running, share = state->queued;
    if (limit && share > places)
        share = places;
    share /= shares;
    if (share > most)
        share = most;
    return share > 1 ? share : 1;
}

void source_state_begin(struct source_state *state, int count)
{
    state->running += count;
}

void source_state_end(struct source_state *state, int count)
{
    state->running -= count;
}

static bool nothing_comes(const struct source_state *state)
{
    return state->phase == SOURCE_STOPPED ||
           (state->phase == SOURCE_SERVING && state->brings == SOURCE_BRINGS_STOP);
}

bool source_state_is_quiet(const struct source_state *state)
{
    if (state->phase == SOURCE_IDLE)
        return true;
    return nothing_comes(state) && state->queued == 0 && state->owed == 0;
}

bool source_state_has_ended(const struct source_state *state)
{
    return nothing_comes(state) && !state->pinned && state->queued == 0 && state->running == 0 &&
           state->armed == 0;
}
