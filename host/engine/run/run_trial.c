/* What a meter is told of a run. */
#include "engine/run/run_trial.h"

#include "base/clock.h"
#include "engine/run/task.h"
#include "engine/version/instance.h"
#include "engine/version/registration.h"
#include "engine/version/trial.h"
#include "vm/vm.h"

/* It has waited from when the server stored it until its run began. */
static void note_message(const struct task *task, const struct delivery *delivery,
                         uint64_t duration_ns)
{
    int64_t began_ns = clock_wall_ns() - (int64_t)duration_ns;
    meter_note_message(task->registration->meter, began_ns - delivery->timestamp_ns,
                       delivery->attempt > 1);
}

void run_trial_note(const struct task *task)
{
    const struct vm *vm = task->instance->vm; /* NULL: it is given up, for this run */
    const struct meter_run run = {
        .duration_ns = clock_now_ns() - task->started_ns,
        .cpu_ns = task->cpu_ns,
        .state_bytes = vm ? vm->used_bytes + vm->external_bytes : 0,
        .messages = task->batch ? task->batch_count : 1,
        .failed = task->failure != NULL,
        .timed_out = task->cancelled == CANCEL_TIMEOUT,
    };
    meter_note(task->registration->meter, &run);
    if (task->delivery && !task->batch)
        note_message(task, task->delivery, run.duration_ns);
    for (int i = 0; i < task->batch_count; i++)
        note_message(task, task->batch[i], run.duration_ns);
}
