/* api_jsapi - JetStream's API for the modules of the Lua side, and messages that lie in streams. No
 * script reaches it: its arguments have been checked there. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "api/api.h"
#include "base/value.h"
#include "bus/letter.h"
#include "bus/request/jsapi.h"

/* The op's text is the operation. An answer is read when the task resumes, on its worker. */
#define OPERATION_MOST 900

/* nil and an error, with JetStream's own code if there is one. */
static int fail_with(lua_State *L, const struct err *err, int api_code)
{
    api_fail(L, err);
    if (api_code) {
        lua_pushinteger(L, api_code);
        lua_setfield(L, -2, "api_code");
    }
    return 2;
}

/* The answer of an op that has completed; the caller's. NULL: err. */
static cJSON *read_answer(const struct op *op, int *api_code, struct err *err)
{
    const char *operation = op->result.text ? op->result.text : "";
    const struct packet *reply = &op->result.reply;
    *api_code = 0;
    if (op->result.code == ERR_NONE && reply->subject)
        return jsapi_parse(operation, reply->data, reply->len, api_code, err);
    binding_js_unanswered(op, operation, op->result.code, err);
    return NULL;
}

/* Its numbers are the server's: no limit of theirs shall refuse the answer. */
static int push_answer(struct op *op, lua_State *L)
{
    struct err err;
    int api_code;
    cJSON *answer = read_answer(op, &api_code, &err);
    if (!answer)
        return fail_with(L, &err, api_code);
    cJSON_Delete(answer);
    static const struct json_reading reading = {.big = BIG_NUMBER, .remedy = ""};
    if (api_json_decode(L, op->result.reply.data, op->result.reply.len, &reading, &err) != 0)
        return api_fail(L, &err);
    return 1;
}

/* The message hangs on the op, as pushing may raise. */
static void drop_stored(struct op *op)
{
    if (op->work)
        stored_clear(op->work);
    free(op->work);
}

static int push_stored(struct op *op, lua_State *L)
{
    struct err err;
    int api_code, code = 0;
    cJSON *answer = read_answer(op, &api_code, &err);
    if (!answer)
        return fail_with(L, &err, api_code);
    struct stored_message *stored = op->work;
    if (!stored)
        code = err_set(&err, ERR_MEMORY, "no memory for the message");
    else
        code = stored_parse(answer, stored, &err);
    cJSON_Delete(answer);
    /* A header that could not be sent again can be read all the same. */
    if (code != 0 && code != ERR_INVALID)
        return api_fail(L, &err);
    api_push_stored(L, strrchr(op->result.text, '.') + 1, stored);
    return 1;
}

/* (binding, operation, request as JSON or nil, timeout): waits. */
static int call(lua_State *L, int (*push)(struct op *, lua_State *), const char *prefix)
{
    lua_settop(L, 4);
    const char *binding = luaL_checkstring(L, 1);
    lua_pushfstring(L, "%s%s", prefix, luaL_checkstring(L, 2));
    size_t operation_len, len = 0;
    const char *operation = lua_tolstring(L, -1, &operation_len);
    const char *data = luaL_optlstring(L, 3, NULL, &len);
    struct task *task = api_task(L, binding);
    int64_t timeout_ns =
        api_duration(L, 4, binding, "timeout", binding_request_timeout_ns(task->instance));
    struct err err;
    if (operation_len > OPERATION_MOST ||
        subject_check(operation, operation_len, SUBJECT_PUBLISH, &err) != 0)
        return api_misuse(L, "%s: a name that is too long, or cannot be in a subject", binding);
    api_may_wait(L, binding);
    struct op *op = op_new(task, push, binding_cancel_request);
    if (!op)
        return luaL_error(L, "not enough memory");
    op->result.text = strdup(operation);
    if (push == push_stored) {
        op->work = calloc(1, sizeof(struct stored_message));
        op->destroy = drop_stored;
    }
    if (!op->result.text) {
        err_set(&err, ERR_MEMORY, "no memory for a request");
        return api_not_started(L, op, &err);
    }
    if (binding_js_api(op, operation, data, len, timeout_ns, api_on_reply, &err) != 0)
        return api_not_started(L, op, &err);
    return task_wait(L, op);
}

/* core.js_api(binding, operation, request, timeout): the answer as a table, or nil and an error,
 * with api_code. request: JSON, or nil. Waits. */
static int core_js_api(lua_State *L)
{
    return call(L, push_answer, "");
}

/* core.js_get(binding, stream, request, timeout): a message object, or nil and an error as of
 * js_api. Waits. */
static int core_js_get(lua_State *L)
{
    return call(L, push_stored, "STREAM.MSG.GET.");
}

/* --- what is done when a task ends --- */

/* Its op never completes: however the task ends, it is abandoned, and the call is made. Its text is
 * the operation and its work the request. */
static int push_nothing(struct op *op, lua_State *L)
{
    (void)op;
    (void)L;
    return 0;
}

static void do_at_end(struct op *op)
{
    binding_js_tidy(op->instance, op->result.text, op->work, strlen(op->work));
}

static void drop_request(struct op *op)
{
    free(op->work);
}

/* core.js_at_end(operation, request): a call of the API that is made when the running task ends,
 * for whatever reason; nobody waits for it. A number, for core.js_not_at_end. */
static int core_js_at_end(lua_State *L)
{
    static atomic_uint_least64_t counter;
    const char *operation = luaL_checkstring(L, 1), *request = luaL_checkstring(L, 2);
    struct op *op = op_new(instance_of(L)->current, push_nothing, NULL);
    if (!op)
        return luaL_error(L, "not enough memory");
    op->destroy = drop_request;
    op->result.text = strdup(operation);
    op->work = strdup(request);
    if (!op->result.text || !op->work) {
        op_abandon(op);
        return luaL_error(L, "not enough memory");
    }
    op->cancel = do_at_end;
    op->handle = atomic_fetch_add(&counter, 1) + 1;
    lua_pushnumber(L, (double)op->handle);
    return 1;
}

/* core.js_not_at_end(number): by the same task. */
static int core_js_not_at_end(lua_State *L)
{
    uint64_t handle = (uint64_t)luaL_checknumber(L, 1);
    struct op *op = instance_of(L)->current->ops;
    while (op && (op->cancel != do_at_end || op->handle != handle))
        op = op->next;
    if (op) {
        op->cancel = NULL;
        op_abandon(op);
    }
    return 0;
}

/* core.js_subject(operation): with the prefix of JetStream's API. */
static int core_js_subject(lua_State *L)
{
    char subject[OPERATION_MOST + 300];
    lua_pushstring(
        L, binding_js_subject(instance_of(L), luaL_checkstring(L, 1), subject, sizeof subject));
    return 1;
}

/* core.request_timeout(): the config's, in seconds. */
static int core_request_timeout(lua_State *L)
{
    lua_pushnumber(L, (double)binding_request_timeout_ns(instance_of(L)) / NS_PER_S);
    return 1;
}

/* core.is_retired(): does another version serve, or none? */
static int core_is_retired(lua_State *L)
{
    lua_pushboolean(L, binding_is_retired(instance_of(L)));
    return 1;
}

/* --- What the server can do --- */

/* core.js_level(): the API level of the server's JetStream, or nil while it is not known. */
static int core_js_level(lua_State *L)
{
    int level = binding_js_level(instance_of(L));
    if (level < 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, level);
    return 1;
}

/* core.js_require(level, what): true, or nil and an error that says which server it takes. */
static int core_js_require(lua_State *L)
{
    struct err err;
    int level = (int)luaL_checkinteger(L, 1);
    if (binding_js_require(instance_of(L), level, luaL_checkstring(L, 2), &err) != 0)
        return api_fail(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

void api_jsapi_open(lua_State *L)
{
    lua_pushcfunction(L, core_is_retired);
    lua_setfield(L, -2, "is_retired");
    lua_pushcfunction(L, core_js_level);
    lua_setfield(L, -2, "js_level");
    lua_pushcfunction(L, core_js_require);
    lua_setfield(L, -2, "js_require");
    lua_pushcfunction(L, core_js_api);
    lua_setfield(L, -2, "js_api");
    lua_pushcfunction(L, core_js_get);
    lua_setfield(L, -2, "js_get");
    lua_pushcfunction(L, core_js_at_end);
    lua_setfield(L, -2, "js_at_end");
    lua_pushcfunction(L, core_js_not_at_end);
    lua_setfield(L, -2, "js_not_at_end");
    lua_pushcfunction(L, core_js_subject);
    lua_setfield(L, -2, "js_subject");
    lua_pushcfunction(L, core_request_timeout);
    lua_setfield(L, -2, "request_timeout");
}
