/* api_later - what moonbus.later, which publishes at a later time, asks of the host. No script
 * reaches it. */
#include "api/api.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/value.h"

/* core.later_serve(): this process publishes what is parked, from now on. */
static int core_later_serve(lua_State *L)
{
    binding_later_serve(instance_of(L));
    return 0;
}

#define TOKEN_START_TOO UINT64_C(0x9e3779b97f4a7c15)

/* core.later_token(id): a token of a subject for that id: always the same one. */
static int core_later_token(lua_State *L)
{
    size_t len;
    char token[40];
    const char *id = luaL_checklstring(L, 1, &len);
    snprintf(token, sizeof token, "%016llx%016llx",
             (unsigned long long)hash_add(HASH_START, id, len),
             (unsigned long long)hash_add(TOKEN_START_TOO, id, len));
    lua_pushstring(L, token);
    return 1;
}

/* core.later_id(): an id that nothing else has. */
static int core_later_id(lua_State *L)
{
    unsigned char bytes[16];
    char text[2 * sizeof bytes + 1];
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    lua_pushstring(L, text);
    return 1;
}

/* core.js_failed(code, message): a publish of the running task has failed before it was sent: its
 * input is not to be acknowledged for that. */
static int core_js_failed(lua_State *L)
{
    struct task *task = instance_of(L)->current;
    struct err err;
    err_set(&err, err_named(luaL_checkstring(L, 1)), "%s", luaL_checkstring(L, 2));
    if (task)
        task_publish_failed(task, &err);
    return 0;
}

void api_note_abandoned(struct task *task, const char *subject)
{
    struct err err;
    err_set(&err, ERR_CANCELLED,
            "\"%.200s\": cancelled before it was confirmed; wait for what was spawned, or use "
            "js.publish_async",
            subject);
    task_publish_failed(task, &err);
}

/* core.js_abandoned(subject), for a publish that was cancelled while it waited. */
static int core_js_abandoned(lua_State *L)
{
    struct task *task = instance_of(L)->current;
    if (task)
        api_note_abandoned(task, luaL_checkstring(L, 1));
    return 0;
}

/* core.time_text(seconds): "2026-01-02T03:04:05.678Z". */
static int core_time_text(lua_State *L)
{
    char text[VALUE_TIME_BYTES];
    double seconds = luaL_checknumber(L, 1);
    lua_pushstring(L,
                   value_format_time((int64_t)(seconds * (double)NS_PER_S), 3, text, sizeof text));
    return 1;
}

void api_later_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"later_serve", core_later_serve},
        {"later_token", core_later_token},
        {"later_id", core_later_id},
        {"js_failed", core_js_failed},
        {"js_abandoned", core_js_abandoned},
        {"time_text", core_time_text},
        {NULL, NULL},
    };
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
