/* whereabouts - a walk over the tasks of an instance. */
#include "engine/run/whereabouts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/sync.h"
#include "base/value.h"
#include "engine/run/task.h"
#include "engine/version/script.h"
#include "vm/where.h"

/* Of one instance. */
#define RUNS_MOST 8
/* For so long an answer is believed: whoever looks asks each second. */
#define BELIEVED_NS (3 * NS_PER_S)

struct whereabouts {
    struct event event;
    bool asked; /* the event is in the mailbox, or on its way back */
    struct whereabout runs[RUNS_MOST];
    int count;
    uint64_t noted_ns;
};

/* The oldest tasks, in order. Roots only: what they have spawned ends with them. */
static int find_oldest(const struct instance *instance, const struct task *oldest[RUNS_MOST])
{
    const struct task *task;
    int count = 0;
    DL_FOREACH(instance->tasks, task) {
        int at = count;
        if (task->root != task)
            continue;
        while (at > 0 && task->started_ns < oldest[at - 1]->started_ns)
            at--;
        if (at == RUNS_MOST)
            continue;
        count += count < RUNS_MOST;
        memmove(&oldest[at + 1], &oldest[at], (size_t)(count - at - 1) * sizeof *oldest);
        oldest[at] = task;
    }
    return count;
}

static struct whereabout whereabout_of(const struct task *root)
{
    struct whereabout run = {
        .source = root->source, .delivery = root->delivery, .started_ns = root->started_ns};
    char file[128];
    int line;
    if (root->coroutine.L && where_find(root->coroutine.L, file, sizeof file, &line))
        snprintf(run.place, sizeof run.place, "%s:%d", file, line);
    return run;
}

/* The worker. */
static void on_asked(struct event *event, struct instance *instance)
{
    struct whereabouts *whereabouts = container_of(event, struct whereabouts, event);
    struct dispatch *dispatch = instance->scripts->dispatch;
    const struct task *oldest[RUNS_MOST];
    struct whereabout runs[RUNS_MOST];
    int count = find_oldest(instance, oldest);
    for (int i = 0; i < count; i++)
        runs[i] = whereabout_of(oldest[i]);
    dispatch_lock(dispatch);
    memcpy(whereabouts->runs, runs, (size_t)count * sizeof *runs);
    whereabouts->count = count;
    whereabouts->noted_ns = clock_now_ns();
    whereabouts->asked = false;
    dispatch_unlock(dispatch);
}

void whereabouts_ask(struct instance *instance)
{
    must_hold(&instance->scripts->dispatch->lock);
    if (!instance->whereabouts)
        instance->whereabouts = calloc(1, sizeof *instance->whereabouts);
    struct whereabouts *whereabouts = instance->whereabouts;
    if (!whereabouts || whereabouts->asked)
        return;
    whereabouts->asked = true;
    whereabouts->event.run = on_asked;
    DL_APPEND(instance->mailbox, &whereabouts->event);
    instance_ready(instance);
}

const struct whereabout *whereabouts_of(const struct instance *instance, uint64_t now_ns,
                                        int *count)
{
    const struct whereabouts *whereabouts = instance->whereabouts;
    must_hold(&instance->scripts->dispatch->lock);
    bool believed = whereabouts && now_ns - whereabouts->noted_ns < BELIEVED_NS;
    *count = believed ? whereabouts->count : 0;
    return believed ? whereabouts->runs : NULL;
}
