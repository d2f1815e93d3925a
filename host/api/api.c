/* api - what all bindings share: errors as Lua sees them, the checks that come before anything
 * happens, payloads and headers. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

#include "base/value.h"

#define ERROR_METATABLE "moonbus.error"

/* Errors ------------------------------------------------------------------------------------- */

int api_misuse(lua_State *L, const char *format, ...)
{
    char file[256];
    int line;
    if (where_find(L, file, sizeof file, &line))
        lua_pushfstring(L, "%s:%d: ", file, line);
    else
        lua_pushliteral(L, "");
    va_list args;
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    return lua_error(L);
}

static void push_error(lua_State *L, const char *code, const char *message)
{
    lua_createtable(L, 0, 2);
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    luaL_getmetatable(L, ERROR_METATABLE);
    lua_setmetatable(L, -2);
}

void api_push_error(lua_State *L, const struct err *err)
{
    push_error(L, err_name(err->code), err->message);
}

int api_fail(lua_State *L, const struct err *err)
{
    lua_pushnil(L);
    api_push_error(L, err);
    return 2;
}

/* core.error(code, message): an error object, for the Lua side. */
static int core_error(lua_State *L)
{
    push_error(L, luaL_checkstring(L, 1), luaL_checkstring(L, 2));
    return 1;
}

/* core.misuse(text): raises it, with the place in the script before it. */
static int core_misuse(lua_State *L)
{
    return api_misuse(L, "%s", luaL_checkstring(L, 1));
}

static const char *raw_string(lua_State *L, int index, const char *field, const char *otherwise)
{
    lua_pushstring(L, field);
    lua_rawget(L, index);
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : otherwise;
}

static int error_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *code = raw_string(L, 1, "code", "error");
    const char *message = raw_string(L, 1, "message", "");
    lua_pushfstring(L, "%s: %s", code, message);
    return 1;
}

static bool is_error(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, ERROR_METATABLE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* "it failed: " .. err reads well. No __tostring of a script's is called: a loop in one could not
 * be left from in here. */
static int error_concat(lua_State *L)
{
    lua_settop(L, 2);
    for (int i = 1; i <= 2; i++) {
        if (is_error(L, i)) {
            lua_pushcfunction(L, error_tostring);
            lua_pushvalue(L, i);
            lua_call(L, 1, 1);
            lua_replace(L, i);
        } else if (!lua_isstring(L, i)) {
            return api_misuse(L, "attempt to concatenate an error and a %s", api_type_name(L, i));
        }
    }
    lua_concat(L, 2);
    return 1;
}

void api_errors_open(lua_State *L)
{
    luaL_newmetatable(L, ERROR_METATABLE);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, error_concat);
    lua_setfield(L, -2, "__concat");
    lua_pushliteral(L, "error");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, core_error);
    lua_setfield(L, -2, "error");
    lua_pushcfunction(L, core_misuse);
    lua_setfield(L, -2, "misuse");
}

void api_collected(lua_State *L, const char *metatable, lua_CFunction collect)
{
    luaL_newmetatable(L, metatable);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* Checks --------------------------------------------------------------------------------------- */

const char *api_type_name(lua_State *L, int index)
{
    if (lua_type(L, index) == LUA_TUSERDATA && luaL_getmetafield(L, index, "__metatable")) {
        const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        lua_pop(L, 1); /* the metatable keeps it alive */
        if (name)
            return name;
    }
    if (lua_type(L, index) == LUA_TLIGHTUSERDATA && !lua_touserdata(L, index))
        return "bus.json.null";
    return lua_type(L, index) == LUA_TNONE ? "nothing" : luaL_typename(L, index);
}

struct task *api_task(lua_State *L, const char *binding)
{
    struct task *task = instance_of(L)->current;
    if (!task) {
        api_misuse(L,
                   "%s: not while the script loads; call it in a handler or in "
                   "bus.on(\"start\", ...)",
                   binding);
        return NULL;
    }
    task_check_time(task);
    if (task->cancelled) {
        push_error(L, err_name(ERR_CANCELLED), task_cancel_text(task->cancelled));
        lua_error(L);
    }
    return task;
}

void api_may_wait(lua_State *L, const char *binding)
{
    if (!vm_may_yield(L))
        api_misuse(L,
                   "%s cannot wait inside a function that a C function calls, such as "
                   "table.sort, string.gsub or require",
                   binding);
}

/* Most scripts publish to few subjects, which are one string each: one that comes twice in a row is
 * kept, and then known by where it is. */
static void keep_subject(lua_State *L, int index, const char *subject)
{
    struct instance *instance = instance_of(L);
    if (subject != instance->sent.seen) {
        instance->sent.seen = subject;
        return;
    }
    lua_pushvalue(L, index);
    api_keep(L, &instance->sent.subject_ref);
    instance->sent.subject = subject;
}

const char *api_subject(lua_State *L, int index, const char *binding)
{
    if (lua_type(L, index) != LUA_TSTRING) {
        api_misuse(L, "%s: the subject must be a string, got %s", binding, api_type_name(L, index));
        return NULL;
    }
    size_t len;
    const char *subject = lua_tolstring(L, index, &len);
    struct err err;
    if (subject == instance_of(L)->sent.subject)
        return subject;
    if (subject_check(subject, len, SUBJECT_PUBLISH, &err) != 0)
        api_misuse(L, "%s: %s", binding, err.message);
    keep_subject(L, index, subject);
    return subject;
}

void api_keep(lua_State *L, int *ref)
{
    if (*ref)
        lua_rawseti(L, LUA_REGISTRYINDEX, *ref);
    else
        *ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void api_payload(lua_State *L, int index, const char *binding, struct payload *payload)
{
    *payload = (struct payload){.data = ""};
    switch (lua_type(L, index)) {
    case LUA_TNONE:
    case LUA_TNIL:
        return;
    case LUA_TSTRING:
        payload->data = lua_tolstring(L, index, &payload->len);
        return;
    case LUA_TTABLE:
        api_json_encode(L, index, binding);
        payload->content_type = "application/json";
        payload->data = lua_tolstring(L, -1, &payload->len);
        return;
    default:
        api_misuse(L, "%s: the data must be a string, a table or nil, got %s%s", binding,
                   api_type_name(L, index),
                   lua_type(L, index) == LUA_TNUMBER ? " (use tostring)" : "");
    }
}

/* err's sentence, or a text of the number, as it is known in base/value.h. */
static int64_t duration_of(lua_State *L, int index, struct err *err)
{
    int64_t ns = 0;
    size_t len;
    if (lua_type(L, index) == LUA_TSTRING) {
        const char *text = lua_tolstring(L, index, &len);
        return value_duration(text, len, &ns, err) == 0 ? ns : -1;
    }
    if (lua_type(L, index) == LUA_TNUMBER)
        return value_seconds(lua_tonumber(L, index), &ns, err) == 0 ? ns : -1;
    err_set(err, ERR_INVALID, "must be a duration like \"5s\", or a number of seconds, got %s",
            api_type_name(L, index));
    return -1;
}

int64_t api_duration(lua_State *L, int index, const char *binding, const char *field,
                     int64_t default_ns)
{
    if (lua_isnoneornil(L, index) && default_ns >= 0)
        return default_ns;
    struct err err;
    int64_t ns = duration_of(L, index, &err);
    if (ns < 0)
        api_misuse(L, "%s: %s: %s", binding, field, err.message);
    return ns;
}

/* Headers -------------------------------------------------------------------------------------- */

/* One value of a header. Nothing here may raise: headers holds memory of its own, so numbers are
 * written without Lua's help. */
static int add_header(lua_State *L, int index, const char *name, struct headers *headers,
                      struct err *err)
{
    char number[NUMBER_ROOM];
    size_t len;
    const char *value;
    if (lua_type(L, index) == LUA_TNUMBER) {
        len = number_format(lua_tonumber(L, index), number);
        value = number;
    } else if (lua_type(L, index) == LUA_TSTRING) {
        value = lua_tolstring(L, index, &len);
    } else {
        return err_set(err, ERR_INVALID,
                       "the header \"%s\" must be a string or a list of strings, "
                       "got %s",
                       name, luaL_typename(L, index));
    }
    return headers_add(headers, name, value, len, err);
}

static int add_header_values(lua_State *L, const char *name, struct headers *headers,
                             struct err *err)
{
    if (lua_type(L, -1) != LUA_TTABLE)
        return add_header(L, lua_gettop(L), name, headers, err);
    int list = lua_gettop(L);
    size_t count = lua_objlen(L, list);
    if (count == 0)
        return err_set(err, ERR_INVALID, "the header \"%s\" has an empty list of values", name);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, list, (int)i);
        int code = add_header(L, list + 1, name, headers, err);
        lua_pop(L, 1);
        if (code)
            return code;
    }
    return 0;
}

static int add_headers(lua_State *L, int index, struct headers *headers, struct err *err)
{
    if (lua_type(L, index) != LUA_TTABLE)
        return err_set(err, ERR_INVALID, "headers must be a table, got %s",
                       luaL_typename(L, index));
    vm_see_through(L, index);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        size_t len;
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : NULL;
        int code;
        if (!name)
            code = err_set(err, ERR_INVALID, "headers must be keyed by name, got a %s as key",
                           luaL_typename(L, -2));
        else if (strlen(name) != len)
            code = err_set(err, ERR_INVALID, "the header \"%s\" has a NUL in its name", name);
        else
            code = add_header_values(L, name, headers, err);
        if (code)
            return code;
        lua_pop(L, 1);
    }
    return 0;
}

int api_headers(lua_State *L, int index, const char *content_type, struct headers *headers,
                struct err *err)
{
    int top = lua_gettop(L);
    int code = 0;
    if (!lua_isnoneornil(L, index)) {
        code = add_headers(L, index, headers, err);
        lua_settop(L, top);
    }
    if (code == 0 && content_type && !headers_get(headers, "content-type").at)
        code = headers_add(headers, "content-type", content_type, strlen(content_type), err);
    return code;
}

/* The hooks --------------------------------------------------------------------------------------
 */

static void open_all(lua_State *L)
{
    api_errors_open(L);
    lua_pushlightuserdata(L, TASK_CANCELLED);
    lua_setfield(L, -2, "CANCELLED");
    lua_pushlightuserdata(L, VM_SUSPEND);
    lua_setfield(L, -2, "SUSPEND");
    api_json_open(L);
    api_msg_open(L);
    api_bus_open(L);
    api_time_open(L);
    api_js_open(L);
    api_jsapi_open(L);
    api_digest_open(L);
    api_mirror_open(L);
    api_reader_open(L);
    api_later_open(L);
    api_load_open(L);
    api_check_open(L);
    api_plain_open(L);
    api_shared_open(L);
    api_permits_open(L);
    api_parting_open(L);
    api_offload_open(L);
    api_replies_open(L);
    api_http_open(L);
}

const struct engine_hooks *api_hooks(void)
{
    static const struct engine_hooks hooks = {
        .open = open_all,
        .push_message = api_push_message,
        .loosen_messages = api_loosen_messages,
        .end_messages = api_end_messages,
        .reply = api_reply,
        .reply_error = api_reply_error,
    };
    return &hooks;
}
