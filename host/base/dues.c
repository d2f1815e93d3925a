/* A few lists in order, and a wheel for what fits none of them. */
#include "base/dues.h"

#include <stddef.h>

#include "base/container.h"
#include "base/value.h"

#define TICK_NS ((uint64_t)NS_PER_MS)

/* Threads that add at the same time do so a little out of order: then it is put before the last
 * ones of its list. What is so near to the last one added is of the same timeout. */
#define NEAR_NS ((uint64_t)NS_PER_MS)

static struct due *due_of(struct wheel_timer *timer)
{
    return container_of(timer, struct due, timer);
}

void dues_init(struct dues *dues, uint64_t now_ns)
{
    for (int i = 0; i < DUES_LISTS; i++)
        dues->lists[i].next = dues->lists[i].prev = &dues->lists[i];
    dues->last = dues->lists;
    dues->wheel = NULL;
    dues->now_ns = now_ns;
}

void dues_clear(struct dues *dues)
{
    wheel_free(dues->wheel);
    dues->wheel = NULL;
}

/* When the last one of a list is due; 0: it is empty. */
static uint64_t last_ns_of(const struct wheel_timer *list)
{
    return list->prev == list ? 0 : due_of(list->prev)->at_ns;
}

/* The list whose last one is due latest, of those with which it is in order; an empty one, if there
 * is no other; NULL: there is none at all. */
static struct wheel_timer *list_for(struct dues *dues, uint64_t at_ns)
{
    struct wheel_timer *best = NULL;
    uint64_t latest_ns = 0;
    if (at_ns - last_ns_of(dues->last) < NEAR_NS)
        return dues->last;
    for (int i = 0; i < DUES_LISTS; i++) {
        struct wheel_timer *list = &dues->lists[i];
        uint64_t last_ns = last_ns_of(list);
        bool in_order = last_ns <= at_ns || last_ns - at_ns < NEAR_NS;
        if (in_order && (!best || last_ns > latest_ns)) {
            best = list;
            latest_ns = last_ns;
        }
    }
    return best;
}

static void put_in_order(struct dues *dues, struct wheel_timer *list, struct due *due)
{
    struct wheel_timer *before = list->prev, *timer = &due->timer;
    dues->last = list;
    while (before != list && due_of(before)->at_ns > due->at_ns)
        before = before->prev;
    timer->prev = before;
    timer->next = before->next;
    timer->next->prev = timer;
    before->next = timer;
    due->place = DUE_IN_LIST;
}

/* Rounding up is what never gives one early. */
static uint64_t tick_after(uint64_t at_ns)
{
    return at_ns / TICK_NS + (at_ns % TICK_NS != 0);
}

void dues_add(struct dues *dues, struct due *due, uint64_t at_ns)
{
    struct wheel_timer *list = list_for(dues, at_ns);
    due->at_ns = at_ns;
    if (!list && !dues->wheel)
        dues->wheel = wheel_new(dues->now_ns / TICK_NS);
    if (!list && dues->wheel) {
        due->place = DUE_IN_WHEEL;
        wheel_add(dues->wheel, &due->timer, tick_after(at_ns));
        return;
    }
    /* Without memory for the wheel it takes long, but works. */
    put_in_order(dues, list ? list : dues->lists, due);
}

bool dues_remove(struct dues *dues, struct due *due)
{
    struct wheel_timer *timer = &due->timer;
    if (due->place == DUE_NOT)
        return false;
    if (due->place == DUE_IN_WHEEL) {
        wheel_remove(dues->wheel, timer);
    } else {
        timer->prev->next = timer->next;
        timer->next->prev = timer->prev;
        timer->prev = timer->next = NULL;
    }
    due->place = DUE_NOT;
    return true;
}

/* The one of the lists that is due first; NULL: they are empty. */
static struct due *first_of_lists(const struct dues *dues)
{
    struct due *first = NULL;
    for (int i = 0; i < DUES_LISTS; i++) {
        const struct wheel_timer *list = &dues->lists[i];
        struct due *due = list->next == list ? NULL : due_of(list->next);
        if (due && (!first || due->at_ns < first->at_ns))
            first = due;
    }
    return first;
}

struct due *dues_take(struct dues *dues, uint64_t now_ns)
{
    struct due *due = first_of_lists(dues);
    dues->now_ns = now_ns;
    if (due && due->at_ns <= now_ns) {
        dues_remove(dues, due);
        return due;
    }
    if (!dues->wheel)
        return NULL;
    wheel_advance(dues->wheel, now_ns / TICK_NS);
    struct wheel_timer *timer = wheel_take(dues->wheel);
    if (!timer)
        return NULL;
    due_of(timer)->place = DUE_NOT;
    return due_of(timer);
}

uint64_t dues_next_ns(const struct dues *dues)
{
    const struct due *due = first_of_lists(dues);
    uint64_t next_ns = due ? due->at_ns : UINT64_MAX;
    uint64_t tick = dues->wheel ? wheel_next(dues->wheel) : UINT64_MAX;
    uint64_t wheel_ns = tick > UINT64_MAX / TICK_NS ? UINT64_MAX : tick * TICK_NS;
    return next_ns < wheel_ns ? next_ns : wheel_ns;
}
