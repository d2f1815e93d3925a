/* api_http - calls of HTTP servers (host/http). What a call looks like to a script, retries and
 * clients are Lua (moonbus.http):
 *
 *   core.http_open(binding, spec) ─▶ ticket ─▶ core.http_wait(ticket) ─┬▶ true: core.http_piece
 *                                                 ▲  waits             │        └─▶ http_wait ...
 *                                                 └────────────────────┴▶ false: core.http_answer
 *
 * The ticket is the script's hold on its call: whoever lets go of it ends the call. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "api/api.h"
#include "base/value.h"
#include "http/http.h"

#define TICKET_METATABLE "moonbus.http_ticket"

struct http_ticket {
    struct vm_held held;
    struct http_call *call; /* reference held; NULL: let go */
    char *piece;            /* owned, while it is pushed, which may raise; or NULL */
};

static void end_call(struct http_call *call)
{
    if (!call)
        return;
    http_cancel(call);
    http_call_release(call);
}

static void drop_ticket(struct vm_held *held)
{
    struct http_ticket *ticket = (struct http_ticket *)held;
    free(ticket->piece);
    end_call(ticket->call);
}

static void end_ticket(struct http_ticket *ticket)
{
    struct http_call *call = ticket->call;
    free(ticket->piece);
    ticket->piece = NULL;
    ticket->call = NULL;
    vm_unhold(&ticket->held);
    end_call(call);
}

static int collect_ticket(lua_State *L)
{
    end_ticket(lua_touserdata(L, 1));
    return 0;
}

static struct http_ticket *ticket_at(lua_State *L, int index)
{
    return luaL_checkudata(L, index, TICKET_METATABLE);
}

/* What is called ------------------------------------------------------------------------------- */

/* The field of the table of what is to be called, which stays on the stack; NULL: it has none. */
static const char *text_field(lua_State *L, const char *name, size_t *len)
{
    lua_getfield(L, 2, name);
    return lua_isnil(L, -1) ? NULL : lua_tolstring(L, -1, len);
}

/* A path: libcurl takes texts that end with a NUL. */
static const char *path_field(lua_State *L, const char *binding, const char *name)
{
    size_t len;
    const char *path = text_field(L, name, &len);
    if (path && strlen(path) != len)
        api_misuse(L, "%s: %s has a NUL", binding, name);
    if (path && !*path)
        api_misuse(L, "%s: %s is empty: leave it out, or state a path", binding, name);
    return path;
}

/* For libcurl one that is too long is a host that cannot be found. */
static const char *socket_field(lua_State *L, const char *binding)
{
    const char *path = path_field(L, binding, "unix");
    size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1, len = path ? strlen(path) : 0;
    if (len > most)
        api_misuse(L, "%s: unix: the path of a socket has at most %d bytes, got %d", binding,
                   (int)most, (int)len);
    return path;
}

/* What goes along with a request besides its own headers. */
#define TRACE_HEADERS 2

/* `headers` is a list: name, value, name, value. The array is Lua's, on the stack; it has room for
 * those of the trace. */
static void read_headers(lua_State *L, struct http_request *request)
{
    lua_getfield(L, 2, "headers");
    int list = lua_gettop(L);
    size_t count = lua_objlen(L, list) / 2;
    struct http_header *headers = lua_newuserdata(L, (count + TRACE_HEADERS) * sizeof *headers);
    for (size_t i = 0; i < count; i++) {
        struct http_header *header = &headers[i];
        /* The list keeps the texts. */
        lua_rawgeti(L, list, (int)(2 * i + 1));
        lua_rawgeti(L, list, (int)(2 * i + 2));
        header->name = lua_tolstring(L, -2, &header->name_len);
        header->value = lua_tolstring(L, -1, &header->value_len);
        lua_pop(L, 2);
    }
    request->headers = headers;
    request->header_count = count;
}

static bool has_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        if (header->name_len == strlen(name) && strcasecmp(header->name, name) == 0)
            return true;
    }
    return false;
}

static void add_header(struct http_request *request, const char *name, const char *value)
{
    /* Of read_headers, which is not const. */
    struct http_header *headers = (struct http_header *)(uintptr_t)request->headers;
    headers[request->header_count++] =
        (struct http_header){name, value, strlen(name), strlen(value)};
}

/* The trace of the run goes along, unless the script sets one. parent: room for its text, for as
 * long as the request. */
static void add_trace(struct task *task, struct http_request *request, char *parent)
{
    const char *state;
    if (has_header(request, "traceparent") || !binding_trace_texts(task, parent, &state))
        return;
    add_header(request, "traceparent", parent);
    if (*state && !has_header(request, "tracestate"))
        add_header(request, "tracestate", state);
}

static double number_field(lua_State *L, const char *name)
{
    lua_getfield(L, 2, name);
    double number = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

static bool flag_field(lua_State *L, const char *name)
{
    lua_getfield(L, 2, name);
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

static void read_request(lua_State *L, const char *binding, struct http_request *request)
{
    luaL_checkstack(L, 20, NULL);
    request->method = text_field(L, "method", &request->method_len);
    request->url = text_field(L, "url", &request->url_len);
    request->body = text_field(L, "body", &request->body_len);
    request->unix_path = socket_field(L, binding);
    request->ca = path_field(L, binding, "ca");
    request->cert = path_field(L, binding, "cert");
    request->key = path_field(L, binding, "key");
    request->timeout_ns = llround(number_field(L, "timeout") * (double)NS_PER_S);
    request->max_bytes = (size_t)number_field(L, "max");
    request->follow = (int)number_field(L, "follow");
    request->downgrade = flag_field(L, "downgrade");
    request->pieces = flag_field(L, "pieces");
    request->unverified = flag_field(L, "unverified");
    read_headers(L, request);
}

/* core.http_open(binding, spec): a ticket, or nil and an error. The spec has been checked, but for
 * what the floor of HTTP refuses. */
static int core_http_open(lua_State *L)
{
    const char *binding = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct task *task = api_task(L, binding);
    api_may_wait(L, binding);
    struct http_ticket *ticket = lua_newuserdata(L, sizeof *ticket);
    *ticket = (struct http_ticket){0};
    luaL_getmetatable(L, TICKET_METATABLE);
    lua_setmetatable(L, -2);
    int top = lua_gettop(L);
    struct http *http = binding_http(task->instance);
    /* Calls of one script keep their order: its name is the same text in all its versions. */
    struct http_request request = {.flow = binding_script_name(task->instance)};
    struct err err;
    char parent[BINDING_PARENT_SIZE];
    read_request(L, binding, &request);
    add_trace(task, &request, parent);
    if (!http) {
        err_set(&err, ERR_SYSTEM, "there is no network here");
        return api_fail(L, &err);
    }
    struct http_call *call = http_call_new(http, &request, &err);
    if (!call && err.code == ERR_INVALID)
        return api_misuse(L, "%s: %s", binding, err.message);
    if (!call)
        return api_fail(L, &err);
    ticket->call = call;
    vm_hold(L, &ticket->held, drop_ticket);
    lua_settop(L, top);
    return 1;
}

/* Waiting -------------------------------------------------------------------------------------- */

/* The http thread. */
static void on_event(void *owner, enum http_event event)
{
    struct op *op = owner;
    op->result.number = event;
    op_complete(op);
}

static void cancel_wait(struct op *op)
{
    if (http_cancel(op->work))
        op_release(op);
}

static void destroy_wait(struct op *op)
{
    http_call_release(op->work);
}

static int push_event(struct op *op, lua_State *L)
{
    lua_pushboolean(L, op->result.number == HTTP_PIECE);
    return 1;
}

/* core.http_wait(ticket, binding): true when there is a piece, false when it has ended; nil and an
 * error. Waits. */
static int core_http_wait(lua_State *L)
{
    struct http_ticket *ticket = ticket_at(L, 1);
    const char *binding = luaL_checkstring(L, 2);
    struct task *task = api_task(L, binding);
    api_may_wait(L, binding);
    struct op *op = ticket->call ? op_new(task, push_event, cancel_wait) : NULL;
    if (!op) {
        struct err err;
        err_set(&err, ERR_MEMORY, "no memory for a call");
        return api_fail(L, &err);
    }
    op->work = http_call_retain(ticket->call);
    op->destroy = destroy_wait;
    http_ask(ticket->call, on_event, op_retain(op));
    return task_wait(L, op);
}

/* What came ------------------------------------------------------------------------------------ */

/* core.http_piece(ticket): the bytes; nil when there are none. */
static int core_http_piece(lua_State *L)
{
    struct http_ticket *ticket = ticket_at(L, 1);
    size_t len = 0;
    free(ticket->piece);
    ticket->piece = ticket->call ? http_call_piece(ticket->call, &len) : NULL;
    if (!ticket->piece)
        return 0;
    lua_pushlstring(L, ticket->piece, len);
    free(ticket->piece);
    ticket->piece = NULL;
    return 1;
}

static void push_headers(lua_State *L, const struct http_result *result)
{
    const char *at = result->headers;
    lua_createtable(L, (int)(2 * result->header_count), 0);
    for (size_t i = 0; i < 2 * result->header_count; i++) {
        lua_pushstring(L, at);
        lua_rawseti(L, -2, (int)i + 1);
        at += strlen(at) + 1;
    }
}

/* core.http_answer(ticket): { status, headers (a list), body, url, redirects }, or nil and an
 * error, which has the redirects, and the status if there was one. The ticket holds nothing from
 * then on. */
static int core_http_answer(lua_State *L)
{
    struct http_ticket *ticket = ticket_at(L, 1);
    const struct http_result *result = ticket->call ? http_call_result(ticket->call) : NULL;
    if (!result)
        return 0;
    bool failed = result->err.code != ERR_NONE;
    if (failed) {
        api_fail(L, &result->err);
    } else {
        lua_createtable(L, 0, 6);
        push_headers(L, result);
        lua_setfield(L, -2, "headers");
        lua_pushlstring(L, result->body ? result->body : "", result->body_len);
        lua_setfield(L, -2, "body");
        lua_pushstring(L, result->url);
        lua_setfield(L, -2, "url");
    }
    lua_pushinteger(L, result->redirects);
    lua_setfield(L, -2, "redirects");
    if (result->status) {
        lua_pushinteger(L, result->status);
        lua_setfield(L, -2, "status");
    }
    end_ticket(ticket);
    return failed ? 2 : 1;
}

/* core.http_close(ticket): the call ends. */
static int core_http_close(lua_State *L)
{
    end_ticket(ticket_at(L, 1));
    return 0;
}

/* core.http_key(message or nil): an id that is the same in each run of the input; nil: the run has
 * none. */
static int core_http_key(lua_State *L)
{
    char id[1280];
    struct task *task = api_task(L, "bus.http");
    struct message *message = lua_isnoneornil(L, 1) ? NULL : api_to_message(L, 1);
    const struct delivery *input = message ? message->delivery : NULL;
    bool batch = task->root->batch != NULL;
    if (batch && !input)
        return 0;
    if (task_message_id(task, input, "http", id, sizeof id) != 0)
        return luaL_error(L, "not enough memory");
    if (!id[0])
        return 0;
    lua_pushstring(L, id);
    return 1;
}

void api_http_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"http_open", core_http_open},   {"http_wait", core_http_wait},
        {"http_piece", core_http_piece}, {"http_answer", core_http_answer},
        {"http_close", core_http_close}, {"http_key", core_http_key},
    };
    api_collected(L, TICKET_METATABLE, collect_ticket);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
}
