/* Allocation under a limit, coroutines in a pool, and lua_resume. */
#include "vm/vm.h"

#include <luajit.h>
#include <lualib.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vm/guard.h"
#include "vm/machine_code.h"
#include "vm/vm_private.h"

/* Finished coroutines that are kept, about 1 KB each: as many as a busy consumer has handlers that
 * wait, and no more than a part of the limit. */
#define POOL_MAX 1024
#define POOL_SHARE 32
#define COROUTINE_BYTES 1024
#define GC_STEPS 64 /* the collector's pace changes with each 64th of the limit */
/* A state with more than 4/5 of its limit in use after a collection is full. */
#define FULL 4
#define FULL_OF 5
#define COLLECT_SHARE 4
#define EXTERNAL_MIN ((size_t)8 << 20)
#define GC_PAUSE_MAX 200 /* LuaJIT's own: the next cycle begins when use has doubled */
/* A small state may gather so much before a cycle, which costs as much as all that is alive: with
 * LuaJIT's own pace that was a tenth of what a worker did for a message. */
#define GC_GARBAGE (4.0 * 1024 * 1024)
#define EAGER_MOST ((size_t)1 << 20)
#define EAGER_STEPMUL 1000
#define GC_STEPMUL_MIN 200
#define GC_STEPMUL_MAX 10000

char vm_suspend_marker;
void (*vm_on_line)(lua_State *L, lua_Debug *line);

/* What the limit is about. */
static size_t in_use_bytes(const struct vm *vm)
{
    return vm->used_bytes + vm->external_bytes;
}

/* LuaJIT has no emergency collection: what a cycle has not freed in time is missing when the limit
 * is reached. With its fixed pace 33 MB of live data fail under a limit of 64 MB; with a pace that
 * follows what is left 55 MB work. Called by the allocator; lua_gc only stores the numbers. */
static void pace_collector(struct vm *vm)
{
    if (vm->eager)
        return;
    size_t in_use = in_use_bytes(vm);
    if (in_use >= vm->gc_from && in_use < vm->gc_to)
        return;
    size_t step = vm->limit_bytes / GC_STEPS + 1;
    vm->gc_from = in_use / step * step;
    vm->gc_to = vm->gc_from + step;
    double used = (double)in_use + 1;
    double left = in_use < vm->limit_bytes ? (double)(vm->limit_bytes - in_use) : 0;
    double pause = 100 + 50 * left / used, most = GC_PAUSE_MAX;
    if (used < GC_GARBAGE)
        most = used > GC_GARBAGE / 9 ? 100 + 100 * GC_GARBAGE / used : 1000;
    double stepmul = 300 * used / (left + 1);
    lua_gc(vm->L, LUA_GCSETPAUSE, pause < most ? (int)pause : (int)most);
    if (stepmul < GC_STEPMUL_MIN)
        stepmul = GC_STEPMUL_MIN;
    lua_gc(vm->L, LUA_GCSETSTEPMUL, stepmul < GC_STEPMUL_MAX ? (int)stepmul : GC_STEPMUL_MAX);
}

/* Protected: where in its block a userdata begins. */
static int find_userdata(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *userdata = lua_newuserdata(L, 1);
    vm->held_at = (size_t)(userdata - (const char *)blocks_newest(vm));
    return 0;
}

static void *allocate(void *data, void *memory, size_t old_size, size_t new_size)
{
    struct vm *vm = data;
    size_t in_use = in_use_bytes(vm) - old_size + new_size;
    if (new_size > old_size && vm->enforcing && vm->limit_bytes && in_use > vm->limit_bytes) {
        vm->exhausted = vm->refused = true;
        if (!guard_overdraw(vm, in_use))
            return NULL;
    }
    /* In here the thread must not be torn out of Lua: the ring and the heap are being changed. */
    vm->allocating = 1;
    void *moved = blocks_move(vm, memory, memory ? old_size : 0, new_size);
    if (moved && vm->limit_bytes && vm->L)
        pace_collector(vm);
    vm->allocating = 0;
    return moved;
}

struct vm *vm_of(lua_State *L)
{
    void *data;
    lua_getallocf(L, &data);
    return data;
}

struct vm *vm_new(size_t limit_bytes, void *owner, struct err *err)
{
    struct vm *vm = calloc(1, sizeof *vm);
    if (!vm) {
        err_set(err, ERR_MEMORY, "no memory for a Lua state");
        return NULL;
    }
    vm->owner = owner;
    vm->limit_bytes = limit_bytes;
    blocks_init(vm);
    vm->external_most = EXTERNAL_MIN;
    vm->held.prev = vm->held.next = &vm->held;
    const char *mode = getenv("MOONBUS_GC");
    vm->eager = mode && strcmp(mode, "aggressive") == 0;
    vm->L = lua_newstate(allocate, vm);
    if (!vm->L || lua_cpcall(vm->L, find_userdata, NULL) ||
        lua_cpcall(vm->L, vm_open_libraries, NULL)) {
        err_set(err, ERR_MEMORY, "cannot make a Lua state: %s",
                vm->L ? lua_tostring(vm->L, -1) : "no memory");
        vm_free(vm);
        return NULL;
    }
    if (vm->eager) {
        lua_gc(vm->L, LUA_GCSETPAUSE, 0);
        lua_gc(vm->L, LUA_GCSETSTEPMUL, EAGER_STEPMUL);
    }
    return vm;
}

void vm_free(struct vm *vm)
{
    if (vm->broken) {
        vm_discard(vm);
        return;
    }
    vm->enforcing = false;
    if (vm->L)
        lua_close(vm->L);
    free(vm->pool);
    free(vm);
}

void vm_discard(struct vm *vm)
{
    struct vm_block *own = vm->L ? (struct vm_block *)vm->L - 1 : NULL;
    if (own)
        machine_code_free(vm->L, malloc_usable_size(own) - sizeof *own);
    while (vm->held.next != &vm->held) {
        struct vm_held *held = vm->held.next;
        vm_unhold(held);
        held->drop(held);
    }
    blocks_free(vm);
    free(vm->pool);
    free(vm);
}

/* A full collection, if they have not taken the most of the time lately: with a full state ten
 * thousand children of a handler may fail one after the other. */
static void collect(struct vm *vm)
{
    uint64_t began = clock_now_ns();
    if (began < vm->collect_after_ns)
        return;
    lua_gc(vm->L, LUA_GCCOLLECT, 0);
    uint64_t ended = clock_now_ns();
    vm->collect_after_ns = ended + COLLECT_SHARE * (ended - began);
}

void vm_own(lua_State *L, struct vm_held *held, size_t bytes, void (*drop)(struct vm_held *held))
{
    struct vm *vm = vm_of(L);
    blocks_own(vm, held);
    vm_hold(L, held, drop);
    vm->external_bytes += bytes;
    /* A script that keeps it may allocate nothing more, so nothing would ever be refused. */
    if (vm->limit_bytes && in_use_bytes(vm) > vm->limit_bytes)
        vm->refused = true;
    if (vm->external_bytes < vm->external_most)
        return;
    collect(vm);
    vm->external_most =
        vm->external_bytes * 2 > EXTERNAL_MIN ? vm->external_bytes * 2 : EXTERNAL_MIN;
    if (vm->limit_bytes && vm->external_most > vm->limit_bytes)
        vm->external_most = vm->limit_bytes;
}

static bool is_full(const struct vm *vm)
{
    return in_use_bytes(vm) > vm->limit_bytes / FULL_OF * FULL;
}

bool vm_stays_full(struct vm *vm)
{
    if (!vm->refused)
        return false;
    vm->refused = false;
    if (!is_full(vm))
        return false;
    lua_gc(vm->L, LUA_GCCOLLECT, 0);
    return is_full(vm);
}

void vm_set_limit(struct vm *vm, size_t bytes)
{
    vm->limit_bytes = bytes;
    vm->gc_from = vm->gc_to = 0;
}

void vm_set_jit(struct vm *vm, bool on)
{
    vm->jit_off = !on;
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | (on ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
}

static int new_coroutine(lua_State *L)
{
    struct coroutine *out = lua_touserdata(L, 1);
    out->L = lua_newthread(L);
    out->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

bool vm_has_room_for(struct vm *vm, size_t bytes)
{
    if (!vm->limit_bytes || in_use_bytes(vm) + bytes <= vm->limit_bytes)
        return true;
    lua_gc(vm->L, LUA_GCCOLLECT, 0);
    if (in_use_bytes(vm) + bytes <= vm->limit_bytes)
        return true;
    vm->exhausted = vm->refused = true;
    return false;
}

bool vm_has_room(struct vm *vm)
{
    return vm_has_room_for(vm, 1);
}

int vm_checkout(struct vm *vm, struct coroutine *coroutine, struct err *err)
{
    if (vm->pooled > 0) {
        *coroutine = vm->pool[--vm->pooled];
        return 0;
    }
    bool enforcing = vm->enforcing;
    vm->enforcing = false;
    *coroutine = (struct coroutine){.ref = LUA_NOREF};
    /* While another coroutine runs the limit must not raise on the main state: it is looked at
     * beforehand. */
    int code = vm_has_room(vm) ? lua_cpcall(vm->L, new_coroutine, coroutine) : LUA_ERRMEM;
    if (code && code != LUA_ERRMEM)
        lua_pop(vm->L, 1);
    vm->enforcing = enforcing;
    if (code) {
        vm->refused = true;
        return err_set(err, ERR_MEMORY, "no memory for another coroutine");
    }
    return 0;
}

static bool pool_has_room(struct vm *vm)
{
    if (vm->pooled < vm->pool_capacity)
        return true;
    size_t affordable = vm->limit_bytes / POOL_SHARE / COROUTINE_BYTES;
    if (vm->pool_capacity >= POOL_MAX ||
        (vm->limit_bytes && (size_t)vm->pool_capacity >= affordable))
        return false;
    int capacity = vm->pool_capacity ? vm->pool_capacity * 2 : 8;
    struct coroutine *pool = realloc(vm->pool, (size_t)capacity * sizeof *pool);
    if (!pool)
        return false;
    vm->pool = pool;
    vm->pool_capacity = capacity;
    return true;
}

void vm_checkin(struct vm *vm, struct coroutine coroutine, bool reusable)
{
    if (!coroutine.L)
        return;
    if (reusable && lua_status(coroutine.L) == 0 && pool_has_room(vm)) {
        lua_settop(coroutine.L, 0);
        vm->pool[vm->pooled++] = coroutine;
        return;
    }
    luaL_unref(vm->L, LUA_REGISTRYINDEX, coroutine.ref);
    /* What it held was too much: the next task starts with what can be had. */
    if (vm->exhausted && !vm->enforcing)
        collect(vm);
}

/* Its stack grows, and an error on it would find nobody: the limit is not asked. */
void vm_move(struct vm *vm, lua_State *L, struct coroutine to, int count)
{
    bool enforcing = vm->enforcing;
    vm->enforcing = false;
    lua_xmove(L, to.L, count);
    vm->enforcing = enforcing;
}

/* 0: a binding's yield, whose values are removed. */
static bool is_binding_yield(lua_State *co)
{
    bool ours = lua_gettop(co) > 0 && lua_touserdata(co, 1) == VM_SUSPEND;
    lua_settop(co, 0);
    return ours;
}

enum vm_end vm_resume(struct vm *vm, struct coroutine coroutine, int nargs, struct failure *failure)
{
    lua_State *co = coroutine.L;
    if (vm->eager && vm->used_bytes < EAGER_MOST)
        lua_gc(vm->L, LUA_GCCOLLECT, 0);
    vm->exhausted = false;
    vm->enforcing = true;
    if (vm_on_line)
        lua_sethook(co, vm_on_line, LUA_MASKLINE, 0);
    int status = guard_resume(vm, co, nargs);
    vm->enforcing = false;
    /* However it ended: a pcall may have been the last thing to run. */
    if (guard_stopped(vm, status, failure))
        return status == GUARD_ESCAPED ? VM_BROKEN : VM_FAILED;
    switch (status) {
    case 0:
        return VM_RETURNED;
    case LUA_YIELD:
        if (is_binding_yield(co))
            return VM_YIELDED;
        lua_pushliteral(vm->L, "coroutine.yield outside of coroutine.wrap or coroutine.create");
        failure_fill(vm->L, co, 0, failure);
        return VM_FAILED;
    default:
        return vm_describe(vm, co, -1, co, failure) ? VM_FAILED : VM_BROKEN;
    }
}

/* The message handler of vm_call: the stack that tells the place is still there. */
static int on_error(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct failure *found = lua_touserdata(L, lua_upvalueindex(1));
    bool enforcing = vm->enforcing;
    vm->enforcing = false;
    lua_settop(L, 1);
    failure_clear(found); /* a stack overflow in here calls it again */
    failure_fill(L, L, 2, found);
    vm->enforcing = enforcing;
    lua_pushnil(L);
    return 1;
}

static int call(struct vm *vm, int nargs, int nresults, bool alone, bool *stopped,
                struct failure *failure)
{
    lua_State *L = vm->L;
    bool enforcing = vm->enforcing;
    int base = lua_gettop(L) - nargs;
    struct failure found = {0};
    lua_pushlightuserdata(L, &found);
    lua_pushcclosure(L, on_error, 1);
    lua_insert(L, base);
    vm->exhausted = false;
    vm->enforcing = true;
    int status = alone ? guard_call_alone(vm, L, nargs, nresults, base)
                       : guard_call(vm, L, nargs, nresults, base);
    vm->enforcing = enforcing;
    vm->broken = status == GUARD_ESCAPED;
    if (!vm->broken)
        lua_remove(L, base);
    if ((*stopped = guard_stopped(vm, status, &found))) {
        if (!vm->broken)
            lua_settop(L, base - 1);
        *failure = found;
        return failure->err.code;
    }
    if (status == 0)
        return 0;
    /* LuaJIT calls no handler when memory is out. */
    if (found.err.code == ERR_NONE)
        failure_fill(L, NULL, 0, &found);
    else
        lua_pop(L, 1);
    *failure = found;
    if (vm->exhausted && !enforcing)
        lua_gc(L, LUA_GCCOLLECT, 0);
    return failure->err.code;
}

int vm_call(struct vm *vm, int nargs, int nresults, struct failure *failure)
{
    bool stopped;
    return call(vm, nargs, nresults, false, &stopped, failure);
}

int vm_call_alone(struct vm *vm, int nargs, int nresults, bool *stopped, struct failure *failure)
{
    return call(vm, nargs, nresults, true, stopped, failure);
}

int vm_yield(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushlightuserdata(L, VM_SUSPEND);
    return lua_yield(L, 1);
}

bool vm_may_yield(lua_State *L)
{
    return lua_isyieldable(L);
}

int vm_module(struct vm *vm, const char *name, struct failure *failure)
{
    lua_State *L = vm->L;
    lua_getfield(L, LUA_REGISTRYINDEX, VM_REQUIRE);
    lua_pushstring(L, name);
    return vm_call(vm, 1, 1, failure);
}
