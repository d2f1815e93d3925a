#include "engine/instance.h"

#include <stdlib.h>
#include <utlist.h>

#include "engine/generation.h"
#include "engine/internal.h"
#include "engine/task.h"

struct instance *instance_of(lua_State *L)
{
    return vm_of(L)->owner;
}

struct instance *instance_retain(struct instance *instance)
{
    atomic_fetch_add_explicit(&instance->references, 1, memory_order_relaxed);
    return instance;
}

void instance_release(struct instance *instance)
{
    if (atomic_fetch_sub_explicit(&instance->references, 1, memory_order_acq_rel) != 1)
        return;
    instance_destroy(instance);
}

void instance_destroy(struct instance *instance)
{
    instance_close(instance);
    generation_release(instance->generation);
    free(instance->handlers);
    free(instance->places.free);
    task_free_spare(instance);
    free(instance);
}

void instance_post(struct instance *instance, struct event *event)
{
    struct dispatch *dispatch = &instance->engine->dispatch;
    dispatch_lock(dispatch);
    DL_APPEND(instance->mailbox, event);
    dispatch_ready_instance(dispatch, instance);
    dispatch_unlock(dispatch);
}

void instance_run(struct instance *instance)
{
    struct task *task;
    while ((task = instance->runnable)) {
        DL_DELETE2(instance->runnable, task, run_prev, run_next);
        task_resume(task);
    }
}

static void cancel_all(struct instance *instance, enum cancel_reason reason)
{
    struct task *task, *next;
    DL_FOREACH_SAFE(instance->tasks, task, next) {
        if (task->root == task)
            task_cancel(task, reason);
    }
}

static void on_stop(struct event *event, struct instance *instance)
{
    (void)event;
    cancel_all(instance, CANCEL_STOP);
}

static void on_retire(struct event *event, struct instance *instance)
{
    (void)event;
    dispatch_lock(&instance->engine->dispatch);
    instance->retire_posted = false;
    dispatch_unlock(&instance->engine->dispatch);
    cancel_all(instance, CANCEL_RETIRED);
}

/* Under vm_call: fills "moonbus.core". */
static int open_bindings(lua_State *L)
{
    struct instance *instance = instance_of(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_newtable(L);
    instance->engine->hooks->open(L);
    lua_setfield(L, -2, "moonbus.core");
    return 0;
}

struct instance *instance_load(struct generation *generation, struct loading *loading,
                               struct failure *failure)
{
    struct engine *engine = generation->engine;
    struct instance *instance = calloc(1, sizeof *instance);
    if (!instance) {
        err_set(&failure->err, ERR_MEMORY, "no memory for an instance");
        return NULL;
    }
    atomic_init(&instance->references, 1);
    instance->ready.kind = READY_INSTANCE;
    instance->engine = engine;
    instance->generation = generation_retain(generation);
    instance->stop.run = on_stop;
    instance->retire.run = on_retire;
    instance->vm = vm_new(generation->memory_bytes, instance, &failure->err);
    int rc = instance->vm ? 0 : -1;
    if (rc == 0)
        instance->vm->cpu_ns = generation->policy->cpu_ns;
    if (rc == 0) {
        lua_pushcfunction(instance->vm->L, open_bindings);
        rc = vm_call(instance->vm, 0, 0, failure);
    }
    if (rc == 0) {
        instance->loading = loading;
        rc = loader_run(instance->vm, generation->script->path, generation->script->name,
                        &generation->loader, failure);
        instance->loading = NULL;
    }
    if (rc) {
        instance_release(instance);
        return NULL;
    }
    if (loading->memory_bytes)
        instance->vm->limit_bytes = loading->memory_bytes;
    if (loading->cpu_ns)
        instance->vm->cpu_ns = loading->cpu_ns;
    if (loading->jit_off)
        vm_set_jit(instance->vm, false);
    /* What loading has left behind would stay until 4 MB have gathered. */
    lua_gc(instance->vm->L, LUA_GCCOLLECT, 0);
    return instance;
}

void instance_close(struct instance *instance)
{
    if (instance->vm)
        vm_free(instance->vm);
    instance->vm = NULL;
}
