/* api_permits - locks, semaphores and rate limits of the process (engine/permits.h, limiters.h).
 * Options and objects are Lua (moonbus.permits).
 *
 * A place that is held hangs on its task as an op that never completes: however the task ends, the
 * op is abandoned, and the place is the next one's. Waiting for it is an op of its own. */
#include <math.h>
#include <stdio.h>

#include "api/api.h"
#include "base/value.h"

#define HELD_METATABLE "moonbus.held"

/* Holding -------------------------------------------------------------------------------------- */

struct held {
    struct vm_held held;
    struct op *op; /* reference held, or NULL; its work is the hold */
};

static void drop_held(struct vm_held *held)
{
    op_release(((struct held *)held)->op);
}

static void let_go(struct held *held)
{
    struct op *op = held->op;
    held->op = NULL;
    vm_unhold(&held->held);
    if (op)
        op_release(op);
}

static int collect_held(lua_State *L)
{
    let_go(lua_touserdata(L, 1));
    return 0;
}

static int push_nothing(struct op *op, lua_State *L)
{
    (void)op;
    (void)L;
    return 0;
}

static void cancel_hold(struct op *op)
{
    hold_leave(op->work);
}

static void destroy_hold(struct op *op)
{
    hold_release(op->work);
}

/* Is what somebody holds in the way of this task for ever? It is its own, or its ancestor's, which
 * may wait for it. */
static bool is_own(const void *taker, const void *whom)
{
    const struct task *task = whom;
    while (task && task != taker)
        task = task->parent;
    return task != NULL;
}

static int64_t ns_at(lua_State *L, int index, int64_t otherwise)
{
    return lua_isnoneornil(L, index) ? otherwise
                                     : llround(lua_tonumber(L, index) * (double)NS_PER_S);
}

static void check_own(lua_State *L, struct task *task, const struct permit_wish *wish,
                      const char *binding)
{
    unsigned own = permits_held(binding_permits(task->instance), wish, is_own, task);
    if (own == 0 || own < wish->places)
        return;
    if (wish->places == 1)
        api_misuse(L, "%s: this handler holds \"%s\" already, and would wait for itself", binding,
                   wish->name);
    api_misuse(L, "%s: this handler holds all %d places of \"%s\", and would wait for itself",
               binding, (int)wish->places, wish->name);
}

/* core.permit(binding, kind, name, places, ttl): something that can hold a place, for
 * permit_take. kind: a number of enum permit_kind. */
static int core_permit(lua_State *L)
{
    lua_settop(L, 5);
    const char *binding = luaL_checkstring(L, 1);
    struct permit_wish wish = {
        .kind = (enum permit_kind)luaL_checkinteger(L, 2),
        .places = (unsigned)luaL_checkinteger(L, 4),
        .ttl_ns = ns_at(L, 5, 0),
    };
    wish.name = luaL_checklstring(L, 3, &wish.name_len);
    struct task *task = api_task(L, binding);
    wish.taker = task;
    check_own(L, task, &wish, binding);
    struct held *held = lua_newuserdata(L, sizeof *held);
    *held = (struct held){0};
    luaL_getmetatable(L, HELD_METATABLE);
    lua_setmetatable(L, -2);
    struct op *op = op_new(task, push_nothing, cancel_hold);
    struct hold *hold = op ? hold_new(binding_permits(task->instance), &wish) : NULL;
    if (op && !hold) {
        op->cancel = NULL;
        op_abandon(op);
    }
    if (!hold)
        return luaL_error(L, "not enough memory");
    op->work = hold;
    op->destroy = destroy_hold;
    held->op = op_retain(op);
    vm_hold(L, &held->held, drop_held);
    return 1;
}

/* Waiting for it ------------------------------------------------------------------------------- */

static int fail_take(lua_State *L, const struct hold *hold, enum err_code code)
{
    struct err err;
    if (code == ERR_TIMEOUT)
        err_set(&err, code, "\"%.100s\" has not come free in time", hold_name(hold));
    else
        err_set(&err, code, "no place for \"%.100s\": %d locks and places of semaphores are in use",
                hold_name(hold), PERMITS_HOLDS_MAX);
    return api_fail(L, &err);
}

static int push_taken(struct op *op, lua_State *L)
{
    if (op->result.code != ERR_NONE)
        return fail_take(L, op->work, op->result.code);
    lua_pushboolean(L, true);
    return 1;
}

/* Any thread. */
static void on_end(void *context, enum err_code code)
{
    struct op *op = context;
    op->result.code = code;
    op_complete(op);
}

static void cancel_wait(struct op *op)
{
    if (hold_leave(op->work) == HOLD_WAITED)
        op_release(op);
}

/* The hold waits, unless its turn has come by now. */
static int wait_for(lua_State *L, struct task *task, struct hold *hold, int64_t wait_ns)
{
    struct op *op = op_new(task, push_taken, cancel_wait);
    if (!op)
        return luaL_error(L, "not enough memory");
    op->work = hold_retain(hold);
    op->destroy = destroy_hold;
    enum hold_taken taken = hold_take(hold, wait_ns, on_end, op_retain(op));
    if (taken == HOLD_WAITS)
        return task_wait(L, op);
    op_release(op);
    op->cancel = NULL;
    op_abandon(op);
    if (taken == HOLD_FULL)
        return fail_take(L, hold, ERR_FULL);
    lua_pushboolean(L, true);
    return 1;
}

/* core.permit_take(binding, held, wait): true, or nil and an error. wait: nil: for ever. Waits. */
static int core_permit_take(lua_State *L)
{
    lua_settop(L, 3);
    const char *binding = luaL_checkstring(L, 1);
    const struct held *held = luaL_checkudata(L, 2, HELD_METATABLE);
    struct task *task = api_task(L, binding);
    if (!held->op || held->op->task != task)
        return luaL_error(L, "not to be taken any more");
    struct hold *hold = held->op->work;
    int64_t wait_ns = ns_at(L, 3, HOLD_FOR_EVER);
    if (wait_ns > 0)
        api_may_wait(L, binding);
    switch (hold_take(hold, 0, NULL, NULL)) {
    case HOLD_TAKEN:
        lua_pushboolean(L, true);
        return 1;
    case HOLD_FULL:
        return fail_take(L, hold, ERR_FULL);
    case HOLD_BUSY:
    case HOLD_WAITS:
        break;
    }
    return wait_ns > 0 ? wait_for(L, task, hold, wait_ns) : fail_take(L, hold, ERR_TIMEOUT);
}

/* core.permit_release(binding, held): did it hold until now? */
static int core_permit_release(lua_State *L)
{
    lua_settop(L, 2);
    const char *binding = luaL_checkstring(L, 1);
    struct held *held = luaL_checkudata(L, 2, HELD_METATABLE);
    const struct task *current = instance_of(L)->current;
    struct op *op = held->op;
    if (op && op->task && (!current || op->task->root != current->root))
        return api_misuse(L, "%s: another handler holds it", binding);
    bool was_held = op && op->task && hold_leave(op->work) == HOLD_HELD;
    if (op)
        op_abandon(op);
    let_go(held);
    lua_pushboolean(L, was_held);
    return 1;
}

/* core.permit_held(held): does it hold? */
static int core_permit_held(lua_State *L)
{
    const struct held *held = luaL_checkudata(L, 1, HELD_METATABLE);
    lua_pushboolean(L, held->op && held->op->task && hold_is_held(held->op->work));
    return 1;
}

/* core.process(): what this process is called by others of the cluster. */
static int core_process(lua_State *L)
{
    char text[17];
    uint64_t identity = permits_identity(binding_permits(instance_of(L)));
    snprintf(text, sizeof text, "%016llx", (unsigned long long)identity);
    lua_pushstring(L, text);
    return 1;
}

/* Limiters ------------------------------------------------------------------------------------- */

static int fail_full(lua_State *L, const struct limit *limit)
{
    struct err err;
    err_set(&err, ERR_FULL, "no place for the limiter \"%.100s\": %d are in use", limit->name,
            LIMITERS_MAX);
    return api_fail(L, &err);
}

static int push_true(struct op *op, lua_State *L)
{
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static void on_drawn(void *context)
{
    op_complete(context);
}

static void cancel_draw(struct op *op)
{
    if (draw_leave(op->work))
        op_release(op);
}

static void destroy_draw(struct op *op)
{
    draw_free(op->work);
}

/* (binding, name, rate, burst, tokens) */
static double read_limit(lua_State *L, struct limit *limit)
{
    lua_settop(L, 5);
    limit->name = luaL_checklstring(L, 2, &limit->name_len);
    limit->rate = luaL_checknumber(L, 3);
    limit->burst = luaL_checknumber(L, 4);
    return luaL_checknumber(L, 5);
}

/* core.limiter_try(binding, name, rate, burst, tokens): were there so many? */
static int core_limiter_try(lua_State *L)
{
    struct limit limit;
    double tokens = read_limit(L, &limit);
    const struct task *task = api_task(L, luaL_checkstring(L, 1));
    enum draw_taken taken = limiters_try(binding_limiters(task->instance), &limit, tokens);
    if (taken == DRAW_FULL)
        return fail_full(L, &limit);
    lua_pushboolean(L, taken == DRAW_TAKEN);
    return 1;
}

/* core.limiter_take(binding, name, rate, burst, tokens): true, or nil and an error. Waits. */
static int core_limiter_take(lua_State *L)
{
    struct limit limit;
    double tokens = read_limit(L, &limit);
    const char *binding = luaL_checkstring(L, 1);
    struct task *task = api_task(L, binding);
    api_may_wait(L, binding);
    struct op *op = op_new(task, push_true, NULL);
    struct draw *draw = op ? draw_new(binding_limiters(task->instance), on_drawn, op) : NULL;
    if (op && !draw)
        op_abandon(op);
    if (!draw)
        return luaL_error(L, "not enough memory");
    op->work = draw;
    op->destroy = destroy_draw;
    op_retain(op);
    enum draw_taken taken = draw_take(draw, &limit, tokens);
    if (taken == DRAW_WAITS) {
        op->cancel = cancel_draw;
        return task_wait(L, op);
    }
    op_release(op);
    op_abandon(op);
    if (taken == DRAW_FULL)
        return fail_full(L, &limit);
    lua_pushboolean(L, true);
    return 1;
}

void api_permits_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"permit", core_permit},
        {"permit_take", core_permit_take},
        {"permit_release", core_permit_release},
        {"permit_held", core_permit_held},
        {"process", core_process},
        {"limiter_try", core_limiter_try},
        {"limiter_take", core_limiter_take},
        {NULL, NULL},
    };
    api_collected(L, HELD_METATABLE, collect_held);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
