/* offload_stand_in - see offload_stand_in.h. */
#include "engine/offload/offload_stand_in.h"

#include "engine/offload/offload_private.h"

bool offload_is_taken(struct offload_call *call)
{
    struct offload *offload = call->offload;
    const struct offload_stand_in *stand_in = offload->stand_in;
    must_hold(&offload->lock);
    if (!stand_in || !stand_in->takes(stand_in->owner, call->module, call->function))
        return false;
    call->state = CALL_RUNNING;
    offload->running++;
    return true;
}

void offload_question(const struct offload_call *call, struct offload_question *out)
{
    *out = (struct offload_question){call->module, call->function, call->arguments, call->due_ns};
}

void offload_answer(struct offload_call *call, struct plain *results, const struct err *err)
{
    struct offload *offload = call->offload;
    mutex_lock(&offload->lock);
    call->results = results;
    if (err)
        call->failure.err = *err;
    struct op *op = offload_end(call);
    mutex_unlock(&offload->lock);
    offload_ended(call, op);
}
