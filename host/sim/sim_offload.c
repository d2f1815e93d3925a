/* sim_offload - calls of bus.offload in the world that no thread runs: who drives it answers them.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "engine/engine.h"
#include "sim/sim_private.h"
#include "vm/plain.h"

struct offload_module {
    struct offload_module *next;
    char name[];
};

/* A call that has begun. */
struct offload_entry {
    struct offload_entry *next;
    struct offload_call *call; /* until it is answered, then NULL */
    uint64_t number;
    bool taken;
};

static bool takes(void *owner, const char *module, const char *function)
{
    struct sim *sim = owner;
    const struct offload_module *each;
    (void)function;
    sim_guard(sim);
    LL_FOREACH(sim->offload_modules, each) {
        if (strcmp(each->name, module) == 0)
            break;
    }
    sim_unguard(sim);
    return each != NULL;
}

static void ask(void *owner, struct offload_call *call)
{
    struct sim *sim = owner;
    struct offload_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return; /* it times out */
    entry->call = call;
    sim_guard(sim);
    entry->number = ++sim->offload_count;
    LL_APPEND(sim->offload_calls, entry);
    sim_unguard(sim);
}

const struct offload_stand_in *sim_offload_stand_in(struct sim *sim)
{
    sim->offload_stand_in = (struct offload_stand_in){.owner = sim, .takes = takes, .ask = ask};
    return &sim->offload_stand_in;
}

void sim_answer_offload(struct sim *sim, const char *module)
{
    struct offload_module *added = malloc(sizeof *added + strlen(module) + 1);
    if (!added)
        return;
    strcpy(added->name, module);
    sim_guard(sim);
    LL_PREPEND(sim->offload_modules, added);
    sim_unguard(sim);
}

static void end_call(struct sim *sim, struct offload_entry *entry, struct plain *results,
                     const struct err *err)
{
    sim_guard(sim);
    struct offload_call *call = entry->call;
    entry->call = NULL;
    sim_unguard(sim);
    if (call)
        offload_answer(call, results, err);
    else
        plain_release(results);
}

void sim_offload_end(struct sim *sim)
{
    struct err closed;
    struct offload_entry *entry;
    err_set(&closed, ERR_CLOSED, "the host stops");
    LL_FOREACH(sim->offload_calls, entry)
        end_call(sim, entry, NULL, &closed);
}

void sim_offload_free(struct sim *sim)
{
    struct offload_entry *entry, *next_entry;
    struct offload_module *module, *next_module;
    LL_FOREACH_SAFE(sim->offload_calls, entry, next_entry)
        free(entry);
    LL_FOREACH_SAFE(sim->offload_modules, module, next_module)
        free(module);
}

bool sim_take_offload(struct sim *sim, struct sim_offload_call *out)
{
    struct offload_entry *entry;
    struct offload_question question;
    sim_guard(sim);
    LL_FOREACH(sim->offload_calls, entry) {
        if (!entry->taken && entry->call)
            break;
    }
    if (entry)
        entry->taken = true;
    sim_unguard(sim);
    if (!entry)
        return false;
    offload_question(entry->call, &question);
    *out = (struct sim_offload_call){entry->number, question.module, question.function,
                                     question.arguments};
    return true;
}

/* --- answering, on a fiber --- */

struct offload_job {
    struct sim *sim; /* not owned */
    struct offload_entry *entry;
    uint64_t at_ns;
    struct plain *results; /* a reference, or NULL */
    struct err err;
};

static void *answer(void *arg)
{
    struct offload_job *job = arg;
    if (sim_wait_until(job->sim, job->at_ns))
        end_call(job->sim, job->entry, job->results, job->err.code ? &job->err : NULL);
    else
        plain_release(job->results);
    free(job);
    return NULL;
}

static void *start_answer(void *arg)
{
    struct thread thread;
    if (thread_start(&thread, "offload", answer, arg, NULL) == 0)
        thread_detach(thread);
    else
        answer(arg); /* it waits here */
    return NULL;
}

void sim_offload_answer(struct sim *sim, uint64_t number, struct plain *results,
                        const struct err *err, double after_ms)
{
    struct offload_entry *entry;
    LL_SEARCH_SCALAR(sim->offload_calls, entry, number, number);
    struct offload_job *job = entry ? calloc(1, sizeof *job) : NULL;
    if (!job) {
        plain_release(results);
        return;
    }
    job->sim = sim;
    job->entry = entry;
    job->at_ns = sim_now_ns(sim) + (uint64_t)(after_ms * NS_PER_MS);
    job->results = results;
    if (err)
        job->err = *err;
    sim_call(sim, "offload", start_answer, job);
}
