/* api_reader - js.messages: what lies in a stream, one message after the other
 * (bus/consume/reader.h). Options and the iterator are Lua (moonbus.messages).
 *
 *   core.reader(...) ─▶ ticket ─▶ core.reader_await ─▶ core.reader_next ─┬▶ a message ─▶ next ...
 *                                       waits               waits        └▶ nil: that was all
 *
 * What is read hangs on its handler as an op that never completes: however the handler ends, or
 * when the ticket is collected, the op is abandoned, and the reader closed. */
#include <math.h>

#include "api/api.h"
#include "base/value.h"
#include "bus/letter.h"

#define BINDING "js.messages"
#define TICKET_METATABLE "moonbus.reader_ticket"

struct reader_ticket {
    struct vm_held held;
    struct op *op;                 /* reference held, or NULL; its work is the reader */
    struct reader_message message; /* owned, while it is pushed, which may raise; or empty */
};

/* --- the ticket --- */

static void drop_ticket(struct vm_held *held)
{
    struct reader_ticket *ticket = (struct reader_ticket *)held;
    packet_clear(&ticket->message.packet);
    op_release(ticket->op);
}

static int collect_ticket(lua_State *L)
{
    struct reader_ticket *ticket = lua_touserdata(L, 1);
    struct op *op = ticket->op;
    ticket->op = NULL;
    vm_unhold(&ticket->held);
    packet_clear(&ticket->message.packet);
    if (op) {
        op_abandon(op);
        op_release(op);
    }
    return 0;
}

static int push_nothing(struct op *op, lua_State *L)
{
    (void)op;
    (void)L;
    return 0;
}

static void close_reader(struct op *op)
{
    reader_close(op->work);
}

static void release_reader(struct op *op)
{
    reader_release(op->work);
}

/* Pushes a ticket that has an op of the handler, and no reader as yet; raises. */
static struct reader_ticket *push_ticket(lua_State *L, struct task *task)
{
    struct reader_ticket *ticket = lua_newuserdata(L, sizeof *ticket);
    *ticket = (struct reader_ticket){0};
    luaL_getmetatable(L, TICKET_METATABLE);
    lua_setmetatable(L, -2);
    struct op *op = op_new(task->root, push_nothing, NULL);
    if (!op)
        luaL_error(L, "not enough memory");
    ticket->op = op_retain(op);
    vm_hold(L, &ticket->held, drop_ticket);
    return ticket;
}

static struct reader_ticket *ticket_at(lua_State *L, int index)
{
    struct reader_ticket *ticket = luaL_checkudata(L, index, TICKET_METATABLE);
    if (!ticket->op || !ticket->op->work)
        luaL_error(L, "it was not opened");
    return ticket;
}

/* --- opening --- */

#define FILTERS_MOST 64

/* The filters at index, which are strings of the caller's. */
static int read_filters(lua_State *L, int index, const char **filters)
{
    int count = (int)lua_objlen(L, index);
    luaL_argcheck(L, count <= FILTERS_MOST, index, "too many filters");
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, index, i + 1);
        filters[i] = luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    return count;
}

static void read_from(lua_State *L, int index, struct ordered_spec *from)
{
    if (lua_type(L, index) == LUA_TBOOLEAN) {
        from->deliver = DELIVER_LAST_PER_SUBJECT;
        from->headers_only = lua_toboolean(L, index);
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        from->deliver = DELIVER_SEQUENCE;
        from->sequence = (uint64_t)lua_tonumber(L, index);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        from->deliver = DELIVER_TIME;
        from->time = lua_tostring(L, index);
    }
}

static uint64_t whole_at(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) ? 0 : (uint64_t)lua_tonumber(L, index);
}

/* core.reader(stream, filters, from, to, to_time, max, timeout): a ticket, or nil and an error.
 * from: a sequence, a time (RFC 3339), nil, or of each subject the last message: true for its
 * headers alone, false for all of it. to: a sequence; to_time: seconds since 1970. */
static int core_reader(lua_State *L)
{
    lua_settop(L, 7);
    const char *filters[FILTERS_MOST];
    struct task *task = api_task(L, BINDING);
    struct reader_options options = {
        .from = {.stream = luaL_checkstring(L, 1), .what = BINDING, .filters = filters},
        .to_sequence = whole_at(L, 4),
        .most = whole_at(L, 6),
        .timeout_ns =
            api_duration(L, 7, BINDING, "timeout", binding_request_timeout_ns(task->instance)),
    };
    luaL_checktype(L, 2, LUA_TTABLE);
    options.from.filter_count = read_filters(L, 2, filters);
    read_from(L, 3, &options.from);
    if (!lua_isnil(L, 5))
        options.to_ns = llround(lua_tonumber(L, 5) * (double)NS_PER_S);
    struct op *op = push_ticket(L, task)->op;
    struct err err;
    op->work = binding_read(task, &options, &err);
    if (!op->work) {
        op_abandon(op);
        return api_fail(L, &err);
    }
    op->cancel = close_reader;
    op->destroy = release_reader;
    return 1;
}

/* --- waiting --- */

static void on_more(void *owner)
{
    op_complete(owner);
}

static void cancel_wait(struct op *op)
{
    if (reader_stop_waiting(op->work, op))
        op_release(op);
}

/* false: there is something to be looked at. */
static int push_woken(struct op *op, lua_State *L)
{
    (void)op;
    lua_pushboolean(L, 0);
    return 1;
}

/* The handler's ticket, whose reader it may use. */
static struct reader_ticket *own_ticket(lua_State *L, const struct task *task)
{
    struct reader_ticket *ticket = ticket_at(L, 1);
    if (ticket->op->task && ticket->op->task != task->root)
        api_misuse(L, BINDING ": these messages are another handler's");
    return ticket;
}

/* An op that has a reference of the reader's, for whoever waits; raises. */
static struct op *new_wait(lua_State *L, struct task *task, struct reader *reader)
{
    struct op *op = op_new(task, push_woken, cancel_wait);
    if (!op)
        luaL_error(L, "not enough memory");
    op->work = reader_retain(reader);
    op->destroy = release_reader;
    return op;
}

/* It waits, if there was nothing; else it is woken at once, and looks again. */
static int wait_or_wake(lua_State *L, struct op *op, enum reader_taken how)
{
    if (how != READER_WAITS)
        op_complete(op);
    return task_wait(L, op);
}

/* core.reader_await(ticket): true when it is open, or nil and an error; false: to be called again.
 * Waits. */
static int core_reader_await(lua_State *L)
{
    struct task *task = api_task(L, BINDING);
    struct reader *reader = own_ticket(L, task)->op->work;
    struct err err;
    api_may_wait(L, BINDING);
    struct op *op = new_wait(L, task, reader);
    enum reader_taken how = reader_await(reader, on_more, op_retain(op), &err);
    if (how == READER_WAITS || how == READER_BUSY)
        return wait_or_wake(L, op, how);
    op_release(op);
    op->cancel = NULL;
    op_abandon(op);
    if (how == READER_FAILED)
        return api_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* --- reading --- */

static int push_message(lua_State *L, const struct op *op, struct reader_message *message)
{
    const struct packet *packet = &message->packet;
    struct stored_message stored = {
        .subject = (char *)packet->subject,
        .data = (char *)packet->data,
        .len = packet->len,
        .block = packet->headers,
        .sequence = message->sequence,
        .timestamp_ns = message->timestamp_ns,
    };
    api_push_stored(L, reader_stream(op->work), &stored);
    packet_clear(&message->packet);
    return 1;
}

/* Waits for the next one, which has not come as yet. */
static int wait_for_more(lua_State *L, struct task *task, struct reader_ticket *ticket)
{
    struct reader *reader = ticket->op->work;
    api_may_wait(L, BINDING);
    struct op *op = new_wait(L, task, reader);
    return wait_or_wake(L, op,
                        reader_wait(reader, on_more, op_retain(op)) ? READER_WAITS : READER_TAKEN);
}

/* core.reader_next(ticket): a message; nil when that was all; nil and an error; false: to be called
 * again. Waits. */
static int core_reader_next(lua_State *L)
{
    struct task *task = api_task(L, BINDING);
    struct reader_ticket *ticket = own_ticket(L, task);
    struct err err;
    packet_clear(&ticket->message.packet); /* of a step that raised */
    switch (reader_take(ticket->op->work, &ticket->message, &err)) {
    case READER_TAKEN:
        return push_message(L, ticket->op, &ticket->message);
    case READER_OVER:
        op_abandon(ticket->op);
        lua_pushnil(L);
        return 1;
    case READER_FAILED:
        op_abandon(ticket->op);
        return api_fail(L, &err);
    case READER_BUSY:
        return api_misuse(L, BINDING ": another coroutine waits for the next message already");
    case READER_WAITS:
        break;
    }
    return wait_for_more(L, task, ticket);
}

/* core.reader_close(ticket): nothing more is wanted. */
static int core_reader_close(lua_State *L)
{
    op_abandon(ticket_at(L, 1)->op);
    return 0;
}

void api_reader_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"reader", core_reader},
        {"reader_await", core_reader_await},
        {"reader_next", core_reader_next},
        {"reader_close", core_reader_close},
    };
    api_collected(L, TICKET_METATABLE, collect_ticket);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
}
