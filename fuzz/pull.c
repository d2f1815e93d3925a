/* The pull machine, with any order of events, times and answers.
 *
 * BASE MOST MAX_BYTES, a byte each, then events: a letter, and what it takes. In between the time
 * passes: '+' BYTE makes it later by 2^(BYTE % 40) ns. */
#include "bus/consume/pull.h"

#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "fuzz.h"

#define REQUESTS 100 /* of a server that answers each one at once, without a message */

struct world {
    struct pull pull;
    uint64_t now_ns;
    bool writing; /* a request waits to be written */
    bool resized; /* a limit that has shrunk is met again only by and by */
    unsigned requests;
    uint64_t request; /* the number of the last one */
};

/* What a request must be, and the machine after it. */
static void check_request(struct world *world, const struct pull_action *action)
{
    const struct pull *pull = &world->pull;
    MUST(!world->writing); /* one at a time */
    MUST(pull->state == PULL_PULLING);
    MUST(pull->held + pull->asked <= pull->limit);
    MUST(pull->ceiling == 0 || action->batch <= pull->ceiling);
    MUST(action->max_bytes >= 0);
    MUST(action->expires_ns > 0 && action->heartbeat_ns > 0);
    MUST(action->heartbeat_ns <= action->expires_ns / 2);
    MUST(action->request == pull->requests && pull_wants_last(pull));
    MUST(action->request > world->request); /* no two have one number */
    world->request = action->request;
    world->writing = true;
    world->requests++;
}

static void check(struct world *world, struct pull_action action)
{
    const struct pull *pull = &world->pull;
    MUST(pull->held >= 0 && pull->asked >= 0 && pull->base >= 1 && pull->most >= 0);
    MUST(pull->limit >= pull->base && pull->limit <= pull->base + pull->most);
    MUST(action.batch >= 0);
    if (action.batch > 0)
        check_request(world, &action);
    /* A server pins one request; what is not pinned is made one by one. */
    if (pull->pin.on && !pull->pin.id[0] && action.batch > 0)
        MUST(pull->asked == action.batch);
    MUST(!action.keep || (pull->pin.id[0] && (pull->state == PULL_PULLING ||
                                              (pull->state == PULL_STOPPED && pull->held > 0))));
    if (pull->pin.id[0] && pull->state == PULL_PULLING)
        MUST(pin_due_ns(&pull->pin) > world->now_ns && action.wake_ns <= pin_due_ns(&pull->pin));
    /* It waits for something, and will be woken for it. */
    if (pull->state == PULL_BACKING_OFF || (pull->state == PULL_PULLING && pull->asked > 0))
        MUST(action.wake_ns != UINT64_MAX);
    if (pull->state == PULL_STOPPED)
        MUST(action.batch == 0 &&
             (action.wake_ns == UINT64_MAX || (pull->pin.id[0] && pull->held > 0)));
}

/* After a tick, however late, and what it brings to light, there is nothing to do until later. */
static void tick(struct world *world)
{
    uint64_t wake_ns = 0;
    for (int i = 0; i < 3 && wake_ns <= world->now_ns; i++) {
        struct pull_action action = pull_tick(&world->pull, world->now_ns);
        check(world, action);
        wake_ns = action.wake_ns;
    }
    MUST(wake_ns > world->now_ns);
}

/* After a message has come or was settled; rests: there should be nothing to do for a moment. */
static void passed(struct world *world, bool rests)
{
    struct pull_action action = pull_tick(&world->pull, world->now_ns);
    MUST(!rests || (action.batch == 0 && !action.look && !action.keep && !action.warn &&
                    action.wake_ns > world->now_ns));
    check(world, action);
}

static void sent(struct world *world, bool sent)
{
    world->writing = false;
    check(world, pull_sent(&world->pull, sent, world->now_ns));
}

static const struct {
    int code;
    const char *description;
} statuses[] = {
    {100, "Idle Heartbeat"},
    {404, "No Messages"},
    {408, "Request Timeout"},
    {409, "Message Size Exceeds MaxBytes"},
    {409, "Batch Completed"},
    {409, "Exceeded MaxWaiting"},
    {409, "Exceeded MaxRequestBatch of "},
    {409, "Exceeded MaxRequestExpires of "},
    {409, "Exceeded MaxRequestMaxBytes of "},
    {409, "Leadership Change"},
    {409, "Server Shutdown"},
    {409, "Consumer Deleted"},
    {409, "Consumer is push based"},
    {400, "Bad Request"},
    {503, ""},
    {429, "Too Many Requests"},
    {423, "Nats-Wrong-Pin-Id"},
};

#define STATUSES (sizeof statuses / sizeof *statuses)

/* INDEX PENDING REST\n. An INDEX from 128 on is of an older request: one of which nothing is owed
 * any more frees no credit. */
static void status(struct world *world, struct input *input)
{
    unsigned first = input_byte(input);
    size_t index = first % 128 % (STATUSES + 1);
    struct pull *pull = &world->pull;
    uint64_t request = pull->requests > first / 128 ? pull->requests - first / 128 : 0;
    int owed = pull->asked;
    bool pinned = pull->pin.id[0];
    bool counts = request >= pull->counted_from;
    int pending = (int)(int8_t)input_byte(input);
    char *rest = input_line(input, NULL), text[200];
    const char *description = index < STATUSES ? statuses[index].description : "";
    size_t len = strlen(description);
    memcpy(text, description, len);
    strncpy(text + len, rest, sizeof text - len - 1);
    text[sizeof text - 1] = '\0';
    check(world, pull_status(pull, request, index < STATUSES ? statuses[index].code : 299, text,
                             pending, world->now_ns));
    bool unpinned = pinned && !pull->pin.id[0];
    if (!counts && !unpinned && pull->state == PULL_PULLING)
        MUST(pull->asked >= owed);
    free(rest);
}

static void event(struct world *world, struct input *input)
{
    struct pull *pull = &world->pull;
    uint64_t now = world->now_ns;
    switch (input_byte(input)) {
    case '+':
        world->now_ns += UINT64_C(1) << input_byte(input) % 40;
        break;
    case 'c':
        check(world, pull_connected(pull, now));
        break;
    case 'd':
        check(world, pull_disconnected(pull, now));
        break;
    case 'w':
        if (world->writing)
            sent(world, true);
        break;
    case 'x':
        if (world->writing)
            sent(world, false);
        break;
    case 'm':
        passed(world, pull_message(pull, now + 1, now));
        break;
    case 'r':
        passed(world, pull_released(pull, now + 1, now));
        break;
    case 'j':
        check(world, pull_joined(pull, now));
        break;
    case 't':
        tick(world);
        break;
    case 'f':
        check(world, pull_found(pull, now));
        break;
    case 'g':
        check(world, pull_gone(pull, now));
        break;
    case 'M':
        check(world, pull_moved(pull, now));
        break;
    case 's':
        status(world, input);
        break;
    case 'R': {
        int base = input_byte(input);
        pull_resize(pull, base, input_byte(input));
        break;
    }
    case 'P': { /* ON TIMEOUT: the consumer pins its clients, or does not */
        bool on = input_byte(input) % 2;
        pin_set(&pull->pin, on, INT64_C(1) << input_byte(input) % 40);
        break;
    }
    case 'p': { /* AGE ID\n: a message with a pin, of a request of so long ago */
        uint64_t age = input_byte(input), request = pull->requests > age ? pull->requests - age : 0;
        size_t len;
        char *id = input_line(input, &len);
        pin_taken(&pull->pin, request, id, len, now);
        passed(world, pull_message(pull, now + 1, now));
        free(id);
        break;
    }
    case 'S':
        check(world, pull_stop(pull));
        break;
    default:
        break;
    }
}

/* Whatever the machine has been through: a server that ends each request at once has it back off,
 * not spin; and one that says nothing at all as well. */
static void check_patience(struct world *world, unsigned index, bool silent)
{
    struct pull *pull = &world->pull;
    if (world->writing)
        sent(world, true);
    for (int i = 0; i < REQUESTS; i++) /* something must be free, to ask for it */
        passed(world, pull_released(pull, world->now_ns + 1, world->now_ns));
    if (pull->held >= pull->base || pull->state == PULL_STOPPED)
        return;
    check(world, pull_connected(pull, world->now_ns));
    uint64_t began = world->now_ns;
    world->requests = 0;
    for (int step = 0; step < 3 * REQUESTS; step++) {
        if (pull->state == PULL_LOOKING)
            check(world, pull_found(pull, world->now_ns));
        if (world->writing) {
            sent(world, true);
            if (!silent)
                check(world, pull_status(pull, pull->requests, statuses[index].code,
                                         statuses[index].description, -1, world->now_ns));
        } else {
            struct pull_action now = pull_tick(pull, world->now_ns);
            check(world, now);
            if (now.wake_ns != UINT64_MAX && now.wake_ns > world->now_ns && !world->writing)
                world->now_ns = now.wake_ns;
        }
    }
    /* At the most the few that go before the first backoff, and then one in 100 ms; where one may
     * not ask for all, as many instead of one. */
    unsigned parts = pull->ceiling > 0 ? (unsigned)(pull->limit / pull->ceiling) + 1 : 1;
    MUST(world->requests <= parts * (10 + (world->now_ns - began) / (100 * NS_PER_MS)));
}

void fuzz_pull(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    struct world world = {.now_ns = 1000 * NS_PER_S};
    int base = input_byte(&input), most = input_byte(&input);
    unsigned last = input_byte(&input);
    pull_init(&world.pull, base, most, last & 1 ? 4096 : 0);
    while (input_left(&input) > 0)
        event(&world, &input);
    check_patience(&world, last / 2 % STATUSES, last & 0x80);
}
