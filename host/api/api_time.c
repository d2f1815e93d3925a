/* api_time - time, and coroutines that wait for one another.
 *
 * Futures, timers and gather are Lua (moonbus.task); here is what they stand on: children of the
 * running task, and parking: a task waits until someone in its instance wakes it. */
#include "api/api.h"
#include "base/value.h"

#define CHILD_METATABLE "moonbus.child"
#define PARKED_METATABLE "moonbus.parked"

/* Time ----------------------------------------------------------------------------------------- */

static int core_now(lua_State *L)
{
    lua_pushnumber(L, (double)clock_wall_ns() / NS_PER_S);
    return 1;
}

/* core.clock(): seconds of a clock that nobody sets. */
static int core_clock(lua_State *L)
{
    lua_pushnumber(L, (double)clock_now_ns() / NS_PER_S);
    return 1;
}

/* core.duration(value, binding, field): seconds. */
static int core_duration(lua_State *L)
{
    lua_settop(L, 3);
    const char *binding = luaL_checkstring(L, 2);
    const char *field = luaL_optstring(L, 3, "duration");
    int64_t ns = api_duration(L, 1, binding, field, -1);
    lua_pushnumber(L, (double)ns / NS_PER_S);
    return 1;
}

static int push_nothing(struct op *op, lua_State *L)
{
    (void)op;
    (void)L;
    return 0;
}

/* core.sleep(duration, binding). Waits. */
static int core_sleep(lua_State *L)
{
    lua_settop(L, 2);
    const char *binding = luaL_optstring(L, 2, "bus.sleep");
    int64_t ns = api_duration(L, 1, binding, "duration", -1);
    struct task *task = api_task(L, binding);
    api_may_wait(L, binding);
    struct op *op = op_new(task, push_nothing, binding_cancel_sleep);
    if (!op)
        return luaL_error(L, "not enough memory");
    binding_sleep(op, ns);
    return task_wait(L, op);
}

/* Children ---------------------------------------------------------------------------------------
 */

/* Handles are userdata: if the state is discarded, what they hold is released with it. */
struct spawned {
    struct vm_held held;
    struct task *task; /* reference held, or NULL */
};

struct parked {
    struct vm_held held;
    struct op *op; /* reference held, or NULL */
};

static void drop_child(struct vm_held *held)
{
    task_release(((struct spawned *)held)->task);
}

static void drop_parked(struct vm_held *held)
{
    op_release(((struct parked *)held)->op);
}

/* core.spawn(kept, fn, ...): a handle of the child. */
static int core_spawn(lua_State *L)
{
    bool kept = lua_toboolean(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct task *task = api_task(L, "bus.spawn");
    struct spawned *handle = lua_newuserdata(L, sizeof *handle);
    *handle = (struct spawned){0};
    luaL_getmetatable(L, CHILD_METATABLE);
    lua_setmetatable(L, -2);
    lua_replace(L, 1);
    handle->task = task_spawn(task, L, lua_gettop(L) - 2, kept);
    if (!handle->task)
        return luaL_error(L, "not enough memory");
    vm_hold(L, &handle->held, drop_child);
    lua_settop(L, 1);
    return 1;
}

/* core.cancel(handle): its pending binding, or its next one, raises. */
static int core_cancel(lua_State *L)
{
    const struct spawned *handle = luaL_checkudata(L, 1, CHILD_METATABLE);
    if (handle->task)
        task_cancel(handle->task, CANCEL_PARENT);
    return 0;
}

/* core.release(handle), and when it is collected. */
static int core_release(lua_State *L)
{
    struct spawned *handle = luaL_checkudata(L, 1, CHILD_METATABLE);
    struct task *task = handle->task;
    handle->task = NULL;
    vm_unhold(&handle->held);
    if (task)
        task_release(task);
    return 0;
}

/* core.cancel_timer(index): of a timer that was made while the script loaded, by its registration.
 */
static int core_cancel_timer(lua_State *L)
{
    binding_cancel_timer(instance_of(L), (int)luaL_checkinteger(L, 1));
    return 0;
}

/* core.in_task(): false while the script loads. */
static int core_in_task(lua_State *L)
{
    lua_pushboolean(L, instance_of(L)->current != NULL);
    return 1;
}

/* core.run_number(): of the run in which it is called, among those of this instance; 0: of none. */
static int core_run_number(lua_State *L)
{
    const struct task *task = instance_of(L)->current;
    lua_pushnumber(L, task ? (double)task->root->number : 0);
    return 1;
}

/* core.check(binding): raises when called while the script loads, or in a cancelled task. */
static int core_check(lua_State *L)
{
    api_task(L, luaL_checkstring(L, 1));
    return 0;
}

/* core.cancelled(): was the running task cancelled? */
static int core_cancelled(lua_State *L)
{
    const struct task *task = instance_of(L)->current;
    lua_pushboolean(L, task && task->cancelled);
    return 1;
}

/* core.failed_late(text [, file, line]): the running task has failed after it was cancelled. */
static int core_failed_late(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1), *file = luaL_optstring(L, 2, NULL);
    struct task *task = instance_of(L)->current;
    if (task)
        task_failed_late(task, text, file, file ? (int)luaL_optinteger(L, 3, 0) : 0);
    return 0;
}

/* core.show(table): its fields as a short text. */
static int core_show(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    vm_show_table(L, 1);
    return 1;
}

/* core.where([coroutine]): file and line of the script's code that runs, or failed there; or
 * nothing. */
static int core_where(lua_State *L)
{
    char file[256];
    int line;
    lua_State *at = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
    if (!where_find(at, file, sizeof file, &line))
        return 0;
    lua_pushstring(L, file);
    lua_pushinteger(L, line);
    return 2;
}

/* core.frames(): the traceback of whoever calls this, with the values of locals; or nothing, where
 * they are not shown. */
static int core_frames(lua_State *L)
{
    return vm_push_frames(L, 1);
}

/* core.keep_raised(table): what moonbus.task keeps of errors that pass between coroutines. */
static int core_keep_raised(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    vm_keep_raised(L);
    return 0;
}

/* Parking ----------------------------------------------------------------------------------------
 */

/* core.parking(binding): a place to wait at, for the running task. Not waiting yet. */
static int core_parking(lua_State *L)
{
    const char *binding = luaL_optstring(L, 1, "future:wait");
    struct task *task = api_task(L, binding);
    api_may_wait(L, binding);
    struct parked *parked = lua_newuserdata(L, sizeof *parked);
    *parked = (struct parked){0};
    luaL_getmetatable(L, PARKED_METATABLE);
    lua_setmetatable(L, -2);
    /* No cancel: the holder of the handle may still wake it, and has a reference for that. */
    struct op *op = op_new(task, push_nothing, NULL);
    if (!op)
        return luaL_error(L, "not enough memory");
    parked->op = op_retain(op);
    vm_hold(L, &parked->held, drop_parked);
    return 1;
}

/* core.park(parking): waits there until it is woken. */
static int core_park(lua_State *L)
{
    const struct parked *parked = luaL_checkudata(L, 1, PARKED_METATABLE);
    struct op *op = parked->op;
    if (!op || !op->task)
        return 0;
    return task_wait(L, op);
}

/* core.wake(parking): once; nothing happens after that. */
static int core_wake(lua_State *L)
{
    struct parked *parked = luaL_checkudata(L, 1, PARKED_METATABLE);
    struct op *op = parked->op;
    parked->op = NULL;
    vm_unhold(&parked->held);
    if (op)
        op_complete(op);
    return 0;
}

/* core.unpark(parking): nobody waits there, and nobody will; also when it is collected. */
static int core_unpark(lua_State *L)
{
    struct parked *parked = luaL_checkudata(L, 1, PARKED_METATABLE);
    struct op *op = parked->op;
    parked->op = NULL;
    vm_unhold(&parked->held);
    if (op)
        op_release(op);
    return 0;
}

void api_time_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"now", core_now},
        {"clock", core_clock},
        {"duration", core_duration},
        {"sleep", core_sleep},
        {"spawn", core_spawn},
        {"cancel", core_cancel},
        {"release", core_release},
        {"in_task", core_in_task},
        {"run_number", core_run_number},
        {"check", core_check},
        {"cancelled", core_cancelled},
        {"where", core_where},
        {"frames", core_frames},
        {"keep_raised", core_keep_raised},
        {"show", core_show},
        {"failed_late", core_failed_late},
        {"parking", core_parking},
        {"park", core_park},
        {"wake", core_wake},
        {"unpark", core_unpark},
        {"cancel_timer", core_cancel_timer},
        {NULL, NULL},
    };
    api_collected(L, CHILD_METATABLE, core_release);
    api_collected(L, PARKED_METATABLE, core_unpark);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
