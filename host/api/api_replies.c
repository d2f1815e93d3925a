/* api_replies - bus.request_many: one request and all of its replies (bus/request/replies.h). The
 * iterator is Lua (moonbus.replies):
 *
 *   core.replies_ask(...) ─▶ ticket ─▶ core.replies_next(ticket) ─┬▶ a message ─▶ replies_next ...
 *                                        waits                    └▶ nil ─▶ core.replies_outcome
 *
 * What was asked hangs on its handler as an op that never completes: however the handler ends, or
 * when the ticket is collected, the op is abandoned, and nobody listens to replies any more. */
#include <string.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"

#define TICKET_METATABLE "moonbus.replies_ticket"

struct replies_ticket {
    struct vm_held held;
    struct op *op;        /* reference held, or NULL; its work are the replies */
    struct packet packet; /* owned, while it is pushed, which may raise; or empty */
};

/* The ticket ------------------------------------------------------------------------------------*/

static void drop_ticket(struct vm_held *held)
{
    struct replies_ticket *ticket = (struct replies_ticket *)held;
    packet_clear(&ticket->packet);
    op_release(ticket->op);
}

static int collect_ticket(lua_State *L)
{
    struct replies_ticket *ticket = lua_touserdata(L, 1);
    struct op *op = ticket->op;
    ticket->op = NULL;
    vm_unhold(&ticket->held);
    packet_clear(&ticket->packet);
    if (op) {
        op_abandon(op);
        op_release(op);
    }
    return 0;
}

static struct replies_ticket *ticket_at(lua_State *L, int index)
{
    struct replies_ticket *ticket = luaL_checkudata(L, index, TICKET_METATABLE);
    if (!ticket->op)
        luaL_error(L, "it was not asked");
    return ticket;
}

static int push_nothing(struct op *op, lua_State *L)
{
    (void)op;
    (void)L;
    return 0;
}

/* Whoever takes one reply and leaves was answered. */
static enum err_code outcome_of(const struct replies_state *state)
{
    if (state->code != ERR_NONE)
        return state->code;
    return state->came || state->end != REPLIES_GO_ON ? ERR_NONE : ERR_CANCELLED;
}

/* The op's text is the subject, and its number the timeout. */
static void describe_no_reply(const struct op *op, enum err_code code, struct err *err)
{
    const char *subject = op->result.text ? op->result.text : "";
    api_describe_no_reply(subject, (int64_t)op->result.number, code, err);
}

static void cancel_asked(struct op *op)
{
    struct replies_state state = replies_state(op->work);
    struct err err = {.code = outcome_of(&state)};
    if (err.code == ERR_CANCELLED)
        err_set(&err, err.code, "the handler ended before a reply came");
    else if (err.code)
        describe_no_reply(op, err.code, &err);
    replies_leave(op->work);
    binding_count_request(op, err.code);
    binding_end_op_span(op, err.code ? &err : NULL);
}

static void destroy_asked(struct op *op)
{
    replies_release(op->work);
}

/* Asking ----------------------------------------------------------------------------------------*/

static uint64_t most_at(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) ? 0 : (uint64_t)lua_tonumber(L, index);
}

/* Pushes a ticket that has an op of the handler, and no replies as yet; raises. */
static struct replies_ticket *push_ticket(lua_State *L, struct task *task)
{
    struct replies_ticket *ticket = lua_newuserdata(L, sizeof *ticket);
    *ticket = (struct replies_ticket){0};
    luaL_getmetatable(L, TICKET_METATABLE);
    lua_setmetatable(L, -2);
    struct op *op = op_new(task->root, push_nothing, NULL);
    if (!op)
        luaL_error(L, "not enough memory");
    ticket->op = op_retain(op);
    vm_hold(L, &ticket->held, drop_ticket);
    return ticket;
}

/* core.replies_ask(subject, data, timeout, headers, stall, max, sentinel): a ticket, or nil and an
 * error. */
static int core_replies_ask(lua_State *L)
{
    static const char binding[] = "bus.request_many";
    lua_settop(L, 7);
    const char *subject = api_subject(L, 1, binding);
    struct payload payload;
    api_payload(L, 2, binding, &payload);
    struct task *task = api_task(L, binding);
    struct replies_options options = {
        .timeout_ns =
            api_duration(L, 3, binding, "timeout", binding_request_timeout_ns(task->instance)),
        .stall_ns = api_duration(L, 5, binding, "stall", 0),
        .most = most_at(L, 6),
        .sentinel = lua_toboolean(L, 7),
    };
    struct replies_ticket *ticket = push_ticket(L, task);
    struct op *op = ticket->op;
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    struct err err;
    if (api_headers(L, 4, payload.content_type, &headers, &err) != 0) {
        headers_clear(&headers);
        op_abandon(op);
        return api_misuse(L, "%s: %s", binding, err.message);
    }
    op->result.text = strdup(subject);
    op->result.number = (uint64_t)options.timeout_ns;
    op->began_ns = clock_now_ns();
    struct task_sending sending = {.operation = "request", .subject = subject, .len = payload.len};
    op->span = binding_trace_send(task, &sending, &headers);
    struct link_frame frame = {
        .subject = subject,
        .data = payload.data,
        .len = payload.len,
        .headers = &headers,
    };
    op->work = binding_replies(task, &frame, &options, &err);
    headers_clear(&headers);
    if (op->work) {
        op->cancel = cancel_asked;
        op->destroy = destroy_asked;
        return 1;
    }
    binding_count_request(op, err.code);
    binding_end_op_span(op, &err);
    op_abandon(op);
    return api_fail(L, &err);
}

/* Reading ---------------------------------------------------------------------------------------*/

/* With the error of the service's behind it, if it is one. */
static int push_reply(lua_State *L, struct packet *reply)
{
    struct err err;
    lua_pushnil(L);
    bool failed = api_push_service_error(L, &reply->headers, &err);
    int failure = lua_gettop(L);
    api_push_reply(L, reply);
    if (!failed)
        return 1;
    lua_pushvalue(L, failure);
    return 2;
}

static void on_more(void *owner)
{
    op_complete(owner);
}

/* false: another coroutine has taken what it was woken for. */
static int push_more(struct op *op, lua_State *L)
{
    struct packet *reply = &op->result.reply;
    enum replies_taken taken = REPLIES_TAKEN;
    if (!reply->subject)
        taken = replies_take(op->work, reply, NULL, NULL);
    if (taken == REPLIES_TAKEN)
        return push_reply(L, reply);
    if (taken == REPLIES_OVER)
        lua_pushnil(L);
    else
        lua_pushboolean(L, 0);
    return 1;
}

static void cancel_wait(struct op *op)
{
    if (replies_stop_waiting(op->work, op))
        op_release(op);
}

static int wait_for_more(lua_State *L, struct task *task, struct replies *replies)
{
    struct op *op = op_new(task, push_more, cancel_wait);
    if (!op)
        return luaL_error(L, "not enough memory");
    op->work = replies_retain(replies);
    op->destroy = destroy_asked;
    op_retain(op);
    switch (replies_take(replies, &op->result.reply, on_more, op)) {
    case REPLIES_WAITS:
        return task_wait(L, op);
    case REPLIES_TAKEN:
    case REPLIES_OVER:
    case REPLIES_BUSY:
        break;
    }
    /* It has come, or ended, since core_replies_next looked; whoever wakes is the reader. */
    op_complete(op);
    return task_wait(L, op);
}

/* core.replies_next(ticket, binding): a message, and an error when it is a service's; nil when
 * there will be none; false: to be called again. Waits. */
static int core_replies_next(lua_State *L)
{
    struct replies_ticket *ticket = ticket_at(L, 1);
    const char *binding = luaL_checkstring(L, 2);
    struct task *task = api_task(L, binding);
    struct op *op = ticket->op;
    if (op->task && op->task != task->root)
        return api_misuse(L, "%s: these replies are another handler's", binding);
    packet_clear(&ticket->packet); /* of a step that raised */
    switch (replies_take(op->work, &ticket->packet, NULL, NULL)) {
    case REPLIES_TAKEN:
        return push_reply(L, &ticket->packet);
    case REPLIES_OVER:
        op_abandon(op);
        lua_pushnil(L);
        return 1;
    case REPLIES_BUSY:
        return api_misuse(L, "%s: another coroutine waits for the next reply already", binding);
    case REPLIES_WAITS:
        break;
    }
    api_may_wait(L, binding);
    return wait_for_more(L, task, op->work);
}

static void warn_of_dropped(lua_State *L, const struct op *op, uint64_t dropped)
{
    char file[256];
    struct log_context context = {.code = err_name(ERR_FULL)};
    api_log_context(L, &context, file, sizeof file);
    log_event(
        LOG_WARN, &context,
        "bus.request_many: %llu replies to \"%.200s\" were dropped: they came faster than the "
        "handler took them",
        (unsigned long long)dropped, op->result.text ? op->result.text : "");
}

/* core.replies_outcome(ticket): what ended them ("max", "stall", "sentinel", "timeout", "left",
 * "error", or nil: they go on), how many came, how many were dropped, and an error or nil. */
static int core_replies_outcome(lua_State *L)
{
    static const char *const ends[] = {
        [REPLIES_MAX] = "max",         [REPLIES_STALL] = "stall",  [REPLIES_SENTINEL] = "sentinel",
        [REPLIES_TIMEOUT] = "timeout", [REPLIES_FAILED] = "error", [REPLIES_LEFT] = "left",
    };
    const struct op *op = ticket_at(L, 1)->op;
    struct replies_state state = replies_state(op->work);
    if (state.end == REPLIES_GO_ON)
        lua_pushnil(L);
    else
        lua_pushstring(L, ends[state.end]);
    lua_pushnumber(L, (lua_Number)state.came);
    lua_pushnumber(L, (lua_Number)state.dropped);
    if (state.code == ERR_NONE)
        return 3;
    struct err err;
    describe_no_reply(op, state.code, &err);
    api_push_error(L, &err);
    return 4;
}

/* core.replies_close(ticket): the reader wants no more. */
static int core_replies_close(lua_State *L)
{
    struct op *op = ticket_at(L, 1)->op;
    replies_leave(op->work);
    op_abandon(op);
    return 0;
}

/* core.replies_warn(ticket): says in the log how many were dropped, if any were. */
static int core_replies_warn(lua_State *L)
{
    const struct op *op = ticket_at(L, 1)->op;
    uint64_t dropped = replies_state(op->work).dropped;
    if (dropped)
        warn_of_dropped(L, op, dropped);
    return 0;
}

void api_replies_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"replies_ask", core_replies_ask},         {"replies_next", core_replies_next},
        {"replies_outcome", core_replies_outcome}, {"replies_close", core_replies_close},
        {"replies_warn", core_replies_warn},
    };
    api_collected(L, TICKET_METATABLE, collect_ticket);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
}
