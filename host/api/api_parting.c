/* api_parting - a message that a task leaves behind: sent when the task has ended, however it has
 * ended, as by a timeout, after which Lua cannot send. moonbus.cluster_lock gives a lock of the
 * cluster back so.
 *
 * It hangs on its task as an op that never completes: the op is abandoned when the task ends, and
 * sends. Nobody waits for what becomes of it. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

#define METATABLE "moonbus.parting"

struct parting_message {
    char *subject, *data; /* owned; NULL: nothing is sent */
    size_t len;
    struct headers headers; /* owned */
};

struct parting {
    struct vm_held held;
    struct op *op; /* reference held, or NULL; its work is the message */
};

static void clear_message(struct parting_message *message)
{
    free(message->subject);
    free(message->data);
    headers_clear(&message->headers);
    *message = (struct parting_message){0};
}

static void send_it(struct op *op)
{
    struct parting_message *message = op->work;
    if (!message || !message->subject)
        return;
    struct link_frame frame = {.subject = message->subject,
                               .data = message->data,
                               .len = message->len,
                               .headers = &message->headers};
    binding_leave(op->instance, &frame);
    clear_message(message);
}

static void destroy_message(struct op *op)
{
    if (op->work)
        clear_message(op->work);
    free(op->work);
}

static int push_nothing(struct op *op, lua_State *L)
{
    (void)op;
    (void)L;
    return 0;
}

static void drop_parting(struct vm_held *held)
{
    op_release(((struct parting *)held)->op);
}

static int collect_parting(lua_State *L)
{
    struct parting *parting = lua_touserdata(L, 1);
    struct op *op = parting->op;
    parting->op = NULL;
    vm_unhold(&parting->held);
    if (op)
        op_release(op);
    return 0;
}

/* core.parting(binding): a message that the running task leaves behind; none as yet. */
static int core_parting(lua_State *L)
{
    struct task *task = api_task(L, luaL_checkstring(L, 1));
    struct parting *parting = lua_newuserdata(L, sizeof *parting);
    *parting = (struct parting){0};
    luaL_getmetatable(L, METATABLE);
    lua_setmetatable(L, -2);
    struct op *op = op_new(task, push_nothing, send_it);
    if (!op || !(op->work = calloc(1, sizeof(struct parting_message)))) {
        if (op)
            op_abandon(op);
        return luaL_error(L, "not enough memory");
    }
    op->destroy = destroy_message;
    parting->op = op_retain(op);
    vm_hold(L, &parting->held, drop_parting);
    return 1;
}

/* core.parting_set(parting, subject, headers, data): what is left behind from now on; without a
 * subject nothing. False: its task has ended. */
static int core_parting_set(lua_State *L)
{
    lua_settop(L, 4);
    const struct parting *parting = luaL_checkudata(L, 1, METATABLE);
    const char *subject = luaL_optstring(L, 2, NULL);
    size_t len = 0;
    const char *data = luaL_optlstring(L, 4, "", &len);
    struct parting_message fresh = {0};
    struct err err;
    bool hangs = parting->op && parting->op->task;
    if (!hangs || !subject) {
        if (hangs)
            clear_message(parting->op->work);
        lua_pushboolean(L, hangs);
        return 1;
    }
    if (api_headers(L, 3, NULL, &fresh.headers, &err) != 0) {
        clear_message(&fresh);
        return api_misuse(L, "parting: %s", err.message);
    }
    fresh.subject = strdup(subject);
    fresh.data = malloc(len + 1);
    if (!fresh.subject || !fresh.data) {
        clear_message(&fresh);
        return luaL_error(L, "not enough memory");
    }
    memcpy(fresh.data, data, len);
    fresh.len = len;
    clear_message(parting->op->work);
    *(struct parting_message *)parting->op->work = fresh;
    lua_pushboolean(L, true);
    return 1;
}

/* core.parting_send(parting): now, and never again. */
static int core_parting_send(lua_State *L)
{
    const struct parting *parting = luaL_checkudata(L, 1, METATABLE);
    if (parting->op && parting->op->task)
        op_abandon(parting->op);
    return 0;
}

void api_parting_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"parting", core_parting},
                                         {"parting_set", core_parting_set},
                                         {"parting_send", core_parting_send},
                                         {NULL, NULL}};
    api_collected(L, METATABLE, collect_parting);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
