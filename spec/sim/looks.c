#include "looks.h"

#include "engine/sched/dispatch.h"

static void ready(struct dispatch *dispatch, struct ready *entries, int count)
{
    for (int i = 0; i < count; i++)
        dispatch_ready(dispatch, &entries[i]);
}

static void sleep_all(struct dispatch *dispatch, struct sleeper *sleepers, int count)
{
    for (int i = 0; i < count; i++) {
        semaphore_init(&sleepers[i].posted);
        sleepers[i].next = dispatch->sleepers;
        dispatch->sleepers = &sleepers[i];
    }
    dispatch->sleeping = count;
}

static bool in_order(struct dispatch *dispatch, const struct ready *entries, int from, int count)
{
    bool right = true;
    for (int i = from; i < count; i++) {
        const struct ready *first = dispatch_first(dispatch);
        right = right && first == &entries[i] && !first->queued;
    }
    return right && !dispatch_first(dispatch);
}

int looks_woken(const struct looks *looks)
{
    struct dispatch dispatch = {0};
    struct sleeper sleepers[LOOKS_MOST];
    struct ready entries[LOOKS_MOST] = {0};
    dispatch_init(&dispatch);
    dispatch_lock(&dispatch);
    ready(&dispatch, entries, looks->before);
    sleep_all(&dispatch, sleepers, looks->sleepers);
    if (looks->looking)
        dispatch_look(&dispatch);
    ready(&dispatch, entries + looks->before, looks->meanwhile);
    bool right = !looks->takes || dispatch_first(&dispatch) == entries;
    if (looks->looking)
        dispatch_looked(&dispatch, looks->takes);
    int woken = looks->sleepers - dispatch.sleeping;
    right = in_order(&dispatch, entries, looks->takes, looks->before + looks->meanwhile) && right;
    dispatch_unlock(&dispatch);
    dispatch_clear(&dispatch);
    for (int i = 0; i < looks->sleepers; i++)
        semaphore_destroy(&sleepers[i].posted);
    return right ? woken : -1;
}
