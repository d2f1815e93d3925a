/* world - see world.h.
 *
 * Who waits hands over to the next one by itself: the seed picks among those that can run. When
 * nobody can, the time jumps to the earliest deadline; when what the caller of the world asked for
 * has come, or cannot come any more, control goes back to the caller's own stack. */
#include "base/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/bug.h"
#include "base/strand.h"
#include "base/value.h"
#include "base/world_private.h"

#define START_NS ((uint64_t)1000 * (uint64_t)NS_PER_S)
#define WALL_AT_START_NS (INT64_C(1767225600) * NS_PER_S) /* 2026-01-01T00:00:00Z */
#define MAX_STEPS UINT64_C(100000000)
_Thread_local struct world *world_here;

static void *(*own_finders[OWN_MAX])(void);
static int own_count;

void world_keep_own(void *(*find)(void))
{
    if (own_count < OWN_MAX)
        own_finders[own_count++] = find;
}

static void swap_own(uintptr_t *save, const uintptr_t *load)
{
    for (int i = 0; i < own_count; i++) {
        uintptr_t *own = own_finders[i]();
        save[i] = *own;
        *own = load[i];
    }
}

/* --- chance, and what is told of it --- */

uint64_t world_random(struct world *world)
{
    uint64_t z = world->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool by_chance(struct world *world, unsigned of_thousand)
{
    return of_thousand && world_random(world) % 1000 < of_thousand;
}

static void trace(struct world *world, uint64_t what)
{
    uint64_t h = (world->trace ^ what) * UINT64_C(0xff51afd7ed558ccd);
    world->trace = h ^ (h >> 32);
}

void world_note(struct world *world, const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    trace(world, h);
}

/* --- who runs --- */

static void make_ready(struct strand *strand, bool in_time)
{
    struct world *world = strand->world;
    if (strand->kind == FOR_MUTEX)
        world->waiting_for_mutex--;
    strand->state = STRAND_READY;
    strand->kind = FOR_NOTHING;
    strand->in_time = in_time;
    strand->until_ns = NEVER;
    world->ready++;
}

static struct strand *pick(struct world *world)
{
    uint64_t nth = world->ready > 1 ? world_random(world) % (uint64_t)world->ready : 0;
    struct strand *strand;
    DL_FOREACH(world->all, strand) {
        if (strand->state == STRAND_READY && nth-- == 0)
            break;
    }
    trace(world, (uint64_t)strand->number);
    return strand;
}

/* Nobody can run: the earliest deadline comes. False: the world's caller goes on. */
static bool move_time(struct world *world)
{
    struct strand *strand;
    uint64_t next_ns = NEVER;
    if (world->is_so && world->is_so(world->is_so_arg)) {
        world->end = WORLD_DONE;
        return false;
    }
    DL_FOREACH(world->all, strand) {
        if (strand->state == STRAND_WAITS && strand->until_ns < next_ns)
            next_ns = strand->until_ns;
    }
    if (next_ns > world->limit_ns || next_ns == NEVER) {
        world->end = next_ns == NEVER && (world->limit_ns == NEVER || world->awaited) ? WORLD_STUCK
                                                                                      : WORLD_LATE;
        return false;
    }
    if (next_ns > world->now_ns)
        world->now_ns = next_ns;
    trace(world, world->now_ns);
    DL_FOREACH(world->all, strand) {
        if (strand->state == STRAND_WAITS && strand->until_ns <= world->now_ns)
            make_ready(strand, false);
    }
    return true;
}

/* Who is next; NULL: the caller of the world. */
static struct strand *next_one(struct world *world)
{
    if (world->awaited && world->awaited->state == STRAND_ENDED) {
        world->end = WORLD_DONE;
        return NULL;
    }
    if (++world->steps > world->max_steps) {
        world->end = WORLD_ENDLESS;
        return NULL;
    }
    while (world->ready == 0) {
        if (!move_time(world))
            return NULL;
    }
    return pick(world);
}

/* The current one lets others go on; it runs again when it is ready, and its turn has come. */
static void hand_over(struct world *world)
{
    struct strand *here = world->current, *next = next_one(world);
    if (next == here)
        return;
    world->current = next;
    if (next) {
        swap_own(here->own, next->own);
        fiber_switch(&here->fiber, &next->fiber);
    } else {
        world_here = NULL;
        swap_own(here->own, world->caller_own);
        fiber_switch(&here->fiber, &world->caller);
    }
}

static bool wait_for(enum waits_for kind, const void *what, uint64_t until_ns, const void *from)
{
    struct world *world = world_here;
    struct strand *here = world->current;
    here->state = STRAND_WAITS;
    here->kind = kind;
    here->what = what;
    here->from = from;
    here->until_ns = until_ns;
    here->since_ns = world->now_ns;
    world->ready--;
    if (kind == FOR_MUTEX)
        world->waiting_for_mutex++;
    hand_over(world);
    return here->in_time;
}

static int wake(struct world *world, enum waits_for kind, const void *what, bool all)
{
    struct strand *strand;
    uint64_t count = 0;
    DL_FOREACH(world->all, strand) {
        count += strand->state == STRAND_WAITS && strand->kind == kind && strand->what == what;
    }
    if (!count)
        return 0;
    uint64_t nth = all || count == 1 ? 0 : world_random(world) % count;
    DL_FOREACH(world->all, strand) {
        if (strand->state != STRAND_WAITS || strand->kind != kind || strand->what != what)
            continue;
        if (all || nth-- == 0)
            make_ready(strand, true);
        if (!all && nth == NEVER)
            break;
    }
    return (int)count;
}

/* --- strands --- */

static void strand_free(struct strand *strand)
{
    DL_DELETE(strand->world->all, strand);
    if (strand->fiber.lowest)
        fiber_destroy(&strand->fiber);
    free(strand);
}

static void reap_strands(struct world *world)
{
    struct strand *strand, *next;
    DL_FOREACH_SAFE(world->all, strand, next) {
        if (strand->state == STRAND_ENDED && strand->detached && strand != world->current)
            strand_free(strand);
    }
}

static void strand_main(void *arg)
{
    struct strand *strand = arg;
    struct world *world = strand->world;
    strand->result = strand->run(strand->arg);
    strand->state = STRAND_ENDED;
    world->ready--;
    world->left--;
    wake(world, FOR_END, strand, true);
    struct strand *next = next_one(world);
    world->current = next;
    if (!next)
        world_here = NULL;
    swap_own(strand->own, next ? next->own : world->caller_own);
    fiber_end(&strand->fiber, next ? &next->fiber : &world->caller);
}

static struct strand *strand_new(struct world *world, const char *name, void *(*run)(void *),
                                 void *arg)
{
    struct strand *strand = calloc(1, sizeof *strand);
    if (!strand)
        return NULL;
    strand->world = world;
    strand->run = run;
    strand->arg = arg;
    strand->number = ++world->started;
    strand->until_ns = NEVER;
    snprintf(strand->name, sizeof strand->name, "%s", name);
    if (!fiber_init(&strand->fiber, strand_main, strand)) {
        free(strand);
        return NULL;
    }
    reap_strands(world);
    DL_APPEND(world->all, strand);
    world->ready++;
    world->left++;
    return strand;
}

struct strand *world_start(const char *name, void *(*run)(void *), void *arg)
{
    return strand_new(world_here, name, run, arg);
}

void *world_join(struct strand *strand)
{
    while (strand->state != STRAND_ENDED)
        wait_for(FOR_END, strand, NEVER, __builtin_return_address(0));
    void *result = strand->result;
    strand_free(strand);
    return result;
}

void world_detach(struct strand *strand)
{
    strand->detached = true;
}

struct strand *world_self(void)
{
    return world_here->current;
}

const char *world_name(void)
{
    return world_here->current->name;
}

void world_stack(void **lowest, size_t *bytes)
{
    *lowest = world_here->current->fiber.lowest;
    *bytes = world_here->current->fiber.bytes;
}

/* --- in place of pthreads --- */

void world_set_wall(struct world *world, int64_t by_ns)
{
    world->wall_set_ns += by_ns;
}

int64_t world_wall_ns(void)
{
    return world_here->wall_ns + (int64_t)(world_here->now_ns - START_NS) + world_here->wall_set_ns;
}

void world_sleep_until(uint64_t at_ns, const void *from)
{
    if (at_ns > world_here->now_ns)
        wait_for(FOR_TIME, NULL, at_ns, from);
}

void world_about_to_lock(void)
{
    struct world *world = world_here;
    if (by_chance(world, world->yields))
        hand_over(world);
}

void world_wait_for_mutex(struct mutex *mutex, const void *from)
{
    wait_for(FOR_MUTEX, mutex, NEVER, from);
}

void world_unlocked(struct mutex *mutex)
{
    if (world_here->waiting_for_mutex)
        wake(world_here, FOR_MUTEX, mutex, true);
}

bool world_wait(struct cond *cond, uint64_t until_ns, const void *from)
{
    struct world *world = world_here;
    if (until_ns <= world->now_ns) {
        hand_over(world);
        return false;
    }
    if (by_chance(world, world->false_wakes)) {
        hand_over(world);
        return true;
    }
    return wait_for(FOR_COND, cond, until_ns, from);
}

void world_wake(struct cond *cond, bool all)
{
    wake(world_here, FOR_COND, cond, all);
}

void world_wait_for_semaphore(struct semaphore *semaphore, const void *from)
{
    wait_for(FOR_SEMAPHORE, semaphore, NEVER, from);
}

void world_semaphore_posted(struct semaphore *semaphore)
{
    wake(world_here, FOR_SEMAPHORE, semaphore, false);
}

/* --- for the owner of the world --- */

struct world *world_new(const struct world_options *options)
{
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        return NULL;
    world->random = options->seed;
    world->yields = options->yields;
    world->false_wakes = options->false_wakes;
    world->max_steps = options->max_steps ? options->max_steps : MAX_STEPS;
    world->now_ns = START_NS;
    world->wall_ns = options->wall_ns ? options->wall_ns : WALL_AT_START_NS;
    return world;
}

void world_free(struct world *world)
{
    if (!world)
        return;
    while (world->all)
        strand_free(world->all);
    free(world);
}

/* From outside: runs until something that the world was told to look for has come. */
static enum world_end go(struct world *world, uint64_t limit_ns)
{
    BUG_ON(world_here != NULL);
    world_here = world;
    world->limit_ns = limit_ns;
    fiber_init_here(&world->caller);
    struct strand *next = next_one(world);
    if (next) {
        world->current = next;
        swap_own(world->caller_own, next->own);
        fiber_switch(&world->caller, &next->fiber);
    }
    world_here = NULL;
    world->current = NULL;
    world->awaited = NULL;
    world->is_so = NULL;
    reap_strands(world);
    return world->end;
}

enum world_end world_call(struct world *world, const char *name, void *(*run)(void *), void *arg,
                          uint64_t until_ns, void **result)
{
    struct strand *strand = strand_new(world, name, run, arg);
    if (!strand)
        return WORLD_STUCK;
    world->awaited = strand;
    enum world_end end = go(world, until_ns);
    if (end == WORLD_DONE) {
        if (result)
            *result = strand->result;
        strand_free(strand);
    } else {
        strand->detached = true;
    }
    return end;
}

enum world_end world_run_until(struct world *world, uint64_t until_ns)
{
    enum world_end end = go(world, until_ns);
    if (end != WORLD_LATE)
        return end;
    if (until_ns > world->now_ns)
        world->now_ns = until_ns;
    return WORLD_DONE;
}

enum world_end world_settle(struct world *world)
{
    enum world_end end = go(world, world->now_ns);
    return end == WORLD_LATE ? WORLD_DONE : end;
}

enum world_end world_run_while_not(struct world *world, bool (*is_so)(void *arg), void *arg,
                                   uint64_t until_ns)
{
    world->is_so = is_so;
    world->is_so_arg = arg;
    return go(world, until_ns);
}

uint64_t world_now_ns(const struct world *world)
{
    return world->now_ns;
}

int world_fibers(const struct world *world)
{
    return world->left;
}

uint64_t world_steps(const struct world *world)
{
    return world->steps;
}

void world_allow(struct world *world, uint64_t steps)
{
    world->max_steps = world->steps + steps;
}

uint64_t world_trace(const struct world *world)
{
    return world->trace;
}
