/* offload_stand_in - calls of bus.offload that somebody answers in the place of a thread, as a test
 * does. What it does not take runs on a thread.
 *
 *   offload_submit ─▶ takes? ─▶ ask(call) ... offload_answer(call, results, err)
 *
 * A call that was taken is answered once, whatever became of it meanwhile, before the engine is
 * freed. */
#ifndef MOONBUS_ENGINE_OFFLOAD_OFFLOAD_STAND_IN_H
#define MOONBUS_ENGINE_OFFLOAD_OFFLOAD_STAND_IN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vm/plain.h"

struct offload_call;

struct offload_stand_in {
    void *owner;
    /* The worker, with locks held: must not wait. */
    bool (*takes)(void *owner, const char *module, const char *function);
    void (*ask)(void *owner, struct offload_call *call);
};

/* What is asked; the call's, until it is answered. */
struct offload_question {
    const char *module, *function;
    const struct plain *arguments;
    uint64_t due_ns; /* when it times out by itself */
};
void offload_question(const struct offload_call *call, struct offload_question *out);

/* Any thread. results: with a reference, or NULL; err: it has failed, NULL: it has not. */
void offload_answer(struct offload_call *call, struct plain *results, const struct err *err);

#endif
