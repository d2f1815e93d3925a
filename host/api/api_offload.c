/* api_offload - calls of functions that run on the offload threads (engine/offload/offload.h).
 * Proxies and their waiting are Lua (moonbus.offload). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/value.h"

#define TICKET_METATABLE "moonbus.offload_ticket"
#define FIRST_ARGUMENT 5

/* A call that has got its place, between two submissions. */
struct ticket {
    struct vm_held held;
    struct offload_call *call; /* reference held, or NULL */
};

static void cancel_queued(struct offload_call *call)
{
    if (!call)
        return;
    offload_cancel(call, NULL);
    offload_call_release(call);
}

static void drop_ticket(struct vm_held *held)
{
    cancel_queued(((struct ticket *)held)->call);
}

static struct offload_call *take_call(struct ticket *ticket)
{
    struct offload_call *call = ticket->call;
    ticket->call = NULL;
    vm_unhold(&ticket->held);
    return call;
}

static int collect_ticket(lua_State *L)
{
    cancel_queued(take_call(lua_touserdata(L, 1)));
    return 0;
}

/* The op --------------------------------------------------------------------------------------- */

static void cancel_call(struct op *op)
{
    if (offload_cancel(op->work, op))
        op_release(op);
}

static void destroy_call(struct op *op)
{
    cancel_queued(op->work);
}

static int push_ticket(struct op *op, lua_State *L)
{
    struct ticket *ticket = lua_newuserdata(L, sizeof *ticket);
    *ticket = (struct ticket){0};
    luaL_getmetatable(L, TICKET_METATABLE);
    lua_setmetatable(L, -2);
    ticket->call = op->work;
    op->work = NULL;
    vm_hold(L, &ticket->held, drop_ticket);
    lua_pushboolean(L, 1);
    return 2;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (!text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static int push_failure(lua_State *L, const struct failure *failure)
{
    struct err err = failure->err;
    if (failure->file)
        err_prefix(&err, "%s:%d", failure->file, failure->line);
    api_fail(L, &err);
    set_text(L, "file", failure->file);
    set_text(L, "traceback", failure->traceback);
    if (failure->file) {
        lua_pushinteger(L, failure->line);
        lua_setfield(L, -2, "line");
    }
    return 2;
}

/* On the coroutine, between two resumes: the results, which may be large, are pushed when Lua runs
 * again, under its limit. */
static int push_answer(struct op *op, lua_State *L)
{
    struct plain *results = NULL;
    const struct failure *failure;
    switch (offload_outcome(op->work, &results, &failure)) {
    case OFFLOAD_TURN:
        return push_ticket(op, L);
    case OFFLOAD_FAILED:
        return push_failure(L, failure);
    case OFFLOAD_RESULTS:
        break;
    }
    grip_fill(L, grip_push(L), results);
    return 1;
}

/* The bindings --------------------------------------------------------------------------------- */

/* Where nothing else bounds it: in a timer or a hook. */
#define UNBOUNDED_NS (5 * 60 * NS_PER_S)
/* Later than the handler's own timeout, so that its error is the one that is logged. */
#define AFTER_HANDLER_NS NS_PER_S

/* As long as its handler has left. */
static int64_t time_left_ns(const struct task *task)
{
    uint64_t due_ns = task_due_ns(task->root), now_ns = clock_now_ns();
    if (!due_ns)
        return UNBOUNDED_NS;
    return (int64_t)(due_ns > now_ns ? due_ns - now_ns : 0) + AFTER_HANDLER_NS;
}

static struct offload_call *new_call(lua_State *L, struct task *task)
{
    int64_t timeout_ns =
        lua_isnil(L, 4) ? time_left_ns(task) : llround(lua_tonumber(L, 4) * (double)NS_PER_S);
    return binding_offload(task, lua_tostring(L, 2), lua_tostring(L, 3), timeout_ns);
}

/* core.offload(ticket, module, name, timeout or nil, ...): what core.offload_results takes; a
 * ticket and true: once more with that; nil and an error. Waits. */
static int core_offload(lua_State *L)
{
    struct err err;
    char binding[256];
    struct ticket *ticket = lua_isnil(L, 1) ? NULL : luaL_checkudata(L, 1, TICKET_METATABLE);
    snprintf(binding, sizeof binding, "%.120s.%.120s", luaL_checkstring(L, 2),
             luaL_checkstring(L, 3));
    struct task *task = api_task(L, binding);
    api_may_wait(L, binding);
    const struct plain_rules rules = binding_plain_rules(task, "argument");
    struct plain *arguments =
        plain_copy(L, FIRST_ARGUMENT, lua_gettop(L) - FIRST_ARGUMENT + 1, &rules, &err);
    if (!arguments && err.code == ERR_INVALID)
        return api_misuse(L, "%s: %s", binding, err.message);
    if (!arguments)
        return api_fail(L, &err);
    struct offload_call *call = ticket ? take_call(ticket) : new_call(L, task);
    struct op *op = call ? op_new(task, push_answer, cancel_call) : NULL;
    if (!op) {
        plain_release(arguments);
        cancel_queued(call);
        err_set(&err, ERR_MEMORY, "no memory for a call");
        return api_fail(L, &err);
    }
    op->work = call;
    op->destroy = destroy_call;
    if (offload_submit(call, op_retain(op), arguments, &err) != 0) {
        op_release(op);
        return api_not_started(L, op, &err);
    }
    return task_wait(L, op);
}

/* core.offload_results(answer): the values. */
static int core_offload_results(lua_State *L)
{
    struct grip *grip = grip_at(L, 1);
    if (!grip->plain)
        return 0;
    int count = plain_push(L, grip->plain);
    grip_release(grip);
    return count;
}

void api_offload_open(lua_State *L)
{
    api_collected(L, TICKET_METATABLE, collect_ticket);
    lua_pushcfunction(L, core_offload);
    lua_setfield(L, -2, "offload");
    lua_pushcfunction(L, core_offload_results);
    lua_setfield(L, -2, "offload_results");
}
