/* instance - a Lua state of a script: loading it, its mailbox, its end. */
#include "engine/version/instance.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/bug.h"
#include "engine/hooks.h"
#include "engine/version/generation.h"
#include "engine/version/policy.h"
#include "engine/version/script.h"

struct instance *instance_of(lua_State *L)
{
    return vm_of(L)->owner;
}

struct instance *instance_retain(struct instance *instance)
{
    atomic_fetch_add_explicit(&instance->references, 1, memory_order_relaxed);
    return instance;
}

bool instance_unref(struct instance *instance)
{
    return atomic_fetch_sub_explicit(&instance->references, 1, memory_order_acq_rel) == 1;
}

void instance_release(struct instance *instance)
{
    if (instance_unref(instance))
        instance_free(instance);
}

struct tally_cell *instance_cell(struct instance *instance, const struct registration *registration)
{
    struct tally_cell **cell = &instance->cells[registration->index - 1];
    if (!*cell)
        *cell = tally_cell_new(&instance->generation->script->tallies, registration->tally);
    return *cell;
}

/* What it has counted stays. */
static void end_tallies(struct instance *instance)
{
    struct generation *generation = instance->generation;
    struct tally_book *book = &generation->script->tallies;
    for (int i = 0; instance->cells && i < generation->registration_count; i++)
        tally_cell_end(book, instance->cells[i]);
    free(instance->cells);
    tally_calls_end(book, &instance->calls);
}

static void free_spares(struct spare *spare)
{
    while (spare) {
        struct spare *next = spare->next;
        free(spare);
        spare = next;
    }
}

void instance_free(struct instance *instance)
{
    instance_close(instance);
    end_tallies(instance);
    generation_release(instance->generation);
    free(instance->handlers);
    free(instance->order);
    free(instance->whereabouts);
    timeouts_clear(&instance->timeouts);
    free_spares(instance->spare_tasks);
    for (int i = 0; i < OP_BLOCKS; i++)
        free_spares(instance->spare_blocks[i].first);
    free(instance);
}

void instance_ready(struct instance *instance)
{
    must_hold(&instance->scripts->dispatch->lock);
    if (instance->state != INSTANCE_IDLE)
        return;
    generation_remove_idle(instance->generation, instance);
    instance->state = INSTANCE_READY;
    dispatch_ready(instance->scripts->dispatch, &instance->ready);
}

void instance_post(struct instance *instance, struct event *event)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    dispatch_lock(dispatch);
    DL_APPEND(instance->mailbox, event);
    instance_ready(instance);
    dispatch_unlock(dispatch);
}

/* Room for one more registration, and its handler. */
static int make_room(struct instance *instance, struct loading *loading)
{
    size_t capacity = loading->capacity ? 2 * (size_t)loading->capacity : 8;
    if (loading->count < loading->capacity)
        return 0;
    void *items = realloc(loading->items, capacity * sizeof *loading->items);
    if (items)
        loading->items = items;
    void *handlers = realloc(instance->handlers, capacity * sizeof *instance->handlers);
    if (handlers)
        instance->handlers = handlers;
    if (!items || !handlers)
        return ERR_MEMORY;
    loading->capacity = (int)capacity;
    return 0;
}

int instance_register(struct instance *instance, lua_State *L, struct registration *registration)
{
    struct loading *loading = instance->loading;
    if (make_room(instance, loading) != 0)
        return ERR_MEMORY;
    registration->index = loading->count + 1;
    loading->items[loading->count++] = registration;
    instance->handlers[registration->index - 1] = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

void instance_replace_handler(struct instance *instance, lua_State *L, int index)
{
    lua_rawseti(L, LUA_REGISTRYINDEX, instance->handlers[index - 1]);
}

/* Under vm_call: fills "moonbus.core". */
static int open_bindings(lua_State *L)
{
    struct instance *instance = instance_of(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_newtable(L);
    instance->scripts->hooks->open(L);
    lua_setfield(L, -2, "moonbus.core");
    return 0;
}

/* KB, for LUA_GCSTEP: more than there are, so that it goes on to the end of a cycle. LUA_GCCOLLECT
 * sweeps all there is once more before that, which is a third of its time. */
#define CYCLE (1 << 20)

struct instance *instance_load(struct generation *generation, struct loading *loading,
                               struct failure *failure)
{
    struct instance *instance = calloc(1, sizeof *instance);
    if (!instance) {
        err_set(&failure->err, ERR_MEMORY, "no memory for an instance");
        return NULL;
    }
    atomic_init(&instance->references, 1);
    instance->ready.kind = READY_INSTANCE;
    instance->scripts = generation->scripts;
    instance->generation = generation_retain(generation);
    timeouts_init(&instance->timeouts);
    tally_calls_begin(&generation->script->tallies, &instance->calls);
    instance->vm = vm_new(generation->memory_bytes, instance, &failure->err);
    int code = instance->vm ? 0 : -1;
    if (!code)
        instance->vm->cpu_ns = generation->policy->cpu_ns;
    if (!code)
        instance->vm->shows_locals = instance->scripts->only != NULL;
    if (!code) {
        lua_pushcfunction(instance->vm->L, open_bindings);
        code = vm_call(instance->vm, 0, 0, failure);
    }
    if (!code) {
        instance->loading = loading;
        code = loader_run(instance->vm, generation->script->path, generation->script->name,
                          &generation->loader, failure);
        instance->loading = NULL;
    }
    if (!code) {
        instance->cells = calloc((size_t)loading->count + 1, sizeof(struct tally_cell *));
        code =
            instance->cells ? 0 : err_set(&failure->err, ERR_MEMORY, "no memory for an instance");
    }
    if (code) {
        instance_release(instance);
        return NULL;
    }
    if (loading->memory_bytes)
        vm_set_limit(instance->vm, loading->memory_bytes);
    if (loading->cpu_ns)
        instance->vm->cpu_ns = loading->cpu_ns;
    if (loading->jit_off)
        vm_set_jit(instance->vm, false);
    /* What loading has left behind would stay until 4 MB have gathered. */
    lua_gc(instance->vm->L, LUA_GCSTEP, CYCLE);
    instance_note_memory(instance);
    return instance;
}

void instance_drop_standby(struct instance *instance)
{
    free(instance->standby);
    instance->standby = NULL;
}

void instance_close(struct instance *instance)
{
    instance_drop_standby(instance);
    timeouts_end(instance);
    if (instance->vm)
        vm_free(instance->vm);
    instance->vm = NULL;
    instance_note_memory(instance);
}
