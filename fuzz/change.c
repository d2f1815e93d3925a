/* The machine of a handler file, with any order of what is seen of it and of how work on it ends.
 *
 * WANTED, a byte, then events: a letter each. One that cannot be just now is left out. */
#include "app/change.h"

#include "fuzz.h"

#define STEPS 10 /* that any state needs to come to rest */

struct world {
    struct change change;
    bool loading, candidate, rolling; /* what the owner has under way */
    bool stopped;                     /* that load was told to stop */
    bool owed; /* somebody asked while the file was there, and no load has begun since */
};

static void act(struct world *world, struct change_action action)
{
    MUST(!action.stop || world->loading);
    MUST(!action.discard || world->candidate);
    world->stopped = world->stopped || action.stop;
    if (action.discard)
        world->candidate = false;
}

static void check(const struct world *world)
{
    const struct change *change = &world->change;
    MUST((change->state == CHANGE_LOADING) == world->loading);
    MUST((change->state == CHANGE_ROLLING) == world->rolling);
    if (change->state == CHANGE_LOADED)
        MUST(world->candidate && change->known);
    if (change->state == CHANGE_SETTLED || change->state == CHANGE_WANTED ||
        change->state == CHANGE_LEAVING || change->state == CHANGE_LOADING)
        MUST(!world->candidate);
    if (change->state == CHANGE_LEAVING)
        MUST(change->known && change->presence == CHANGE_LOST);
    MUST(!change->last || change->state == CHANGE_LOADED);
    MUST(!(change->again || change->leave) || world->loading || world->rolling);
    MUST(!(change->again && change->leave));
    /* What was asked for is not forgotten. */
    if (world->owed && change->presence == CHANGE_HERE)
        MUST(change->state == CHANGE_WANTED || change->again);
    /* Files that are to be rolled out together are, or waits with the others for the server. */
    if (change->together && change->state == CHANGE_SETTLED)
        MUST(change->verdict == CHANGE_WAITS || change->presence == CHANGE_MISSING);
}

static void ask(struct world *world, bool together, bool by_itself)
{
    bool counts = world->change.presence != CHANGE_LOST;
    act(world, change_asked(&world->change, together, by_itself));
    world->owed = world->owed || counts;
}

static void begin(struct world *world)
{
    if (change_may_load(&world->change)) {
        change_begin_load(&world->change);
        world->loading = true;
        world->stopped = world->owed = false;
    } else if (change_may_roll_out(&world->change)) {
        change_begin_rollout(&world->change);
        world->rolling = true;
    }
}

static void loaded(struct world *world, enum change_verdict verdict)
{
    if (!world->loading)
        return;
    world->loading = false;
    world->candidate = verdict == CHANGE_LIVE;
    act(world, change_loaded(&world->change, verdict));
}

static void rolled_out(struct world *world, bool good, enum change_verdict verdict)
{
    if (!world->rolling)
        return;
    bool unloads = world->change.unloads;
    world->rolling = false;
    world->owed = world->owed && (good || !unloads); /* it is still gone */
    if (good)
        world->candidate = false; /* it serves */
    act(world, change_rolled_out(&world->change, !good     ? verdict
                                                 : unloads ? CHANGE_UNLOADED
                                                           : CHANGE_LIVE));
}

static void put_off(struct world *world)
{
    if (!world->rolling || world->change.unloads)
        return;
    world->rolling = false;
    act(world, change_put_off(&world->change));
}

static void lose(struct world *world, bool unload)
{
    if (world->change.presence != CHANGE_MISSING)
        return;
    act(world, change_lost(&world->change, unload));
}

static void event(struct world *world, uint8_t letter)
{
    static const enum change_verdict refusals[] = {CHANGE_REFUSED, CHANGE_WAITS, CHANGE_TAKEN,
                                                   CHANGE_HELD};
    struct change *change = &world->change;
    switch (letter) {
    case 'a': /* asked: by the watch, with others, by the host itself */
    case 'A':
    case 's':
        ask(world, letter == 'A', letter == 's');
        break;
    case 'j':
        change_join(change);
        break;
    case 'm':
        change_missing(change);
        break;
    case 'b':
        change_back(change);
        break;
    case 'l':
    case 'k':
        lose(world, letter == 'l');
        break;
    case '>':
        begin(world);
        break;
    case 'g':
        loaded(world, CHANGE_LIVE);
        rolled_out(world, true, CHANGE_LIVE);
        break;
    case '0':
    case '1':
    case '2':
    case '3':
        loaded(world, CHANGE_REFUSED);
        rolled_out(world, false, refusals[letter - '0']);
        break;
    case 'o':
        put_off(world);
        break;
    case 'h':
        if (!change_may_roll_out(change))
            break;
        world->owed = world->owed && change->state != CHANGE_LEAVING; /* it is still gone */
        act(world, change_hold(change));
        break;
    case 'f':
        change_freed(change);
        break;
    case 'c':
        change_connected(change);
        break;
    }
    check(world);
}

/* Wherever it is: a file that is there and good is served in the end, and one that is gone is not.
 */
static void check_end(struct world *world, bool gone)
{
    struct change *change = &world->change;
    for (const char *step = gone ? "bml" : "ba"; *step; step++)
        event(world, (uint8_t)*step);
    for (int i = 0; i < STEPS; i++)
        event(world, i % 2 ? 'g' : '>');
    MUST(change->state == CHANGE_SETTLED && !change_works(change));
    MUST(change->known == !gone);
    if (!gone)
        MUST(change->verdict == CHANGE_LIVE && !change_fails(change) && !change->together);
}

void fuzz_change(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    struct world world = {0};
    uint8_t first = input_byte(&input);
    change_init(&world.change, first & 1);
    check(&world);
    while (input_left(&input) > 0)
        event(&world, input_byte(&input));
    check_end(&world, first & 2);
}
