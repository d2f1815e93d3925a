/* api_bus - core NATS and what every script has: publish, request, log, settings, version. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/log.h"
#include "base/value.h"
#include "engine/internal.h"

/* Sending -----------------------------------------------------------------------------------------
 */

int api_send(lua_State *L, struct task *task, struct link_frame *frame, struct err *err)
{
    struct script *script = task->instance->generation->script;
    frame->flow = script->flow;
    int rc = link_send(task->instance->engine->bus->publish, LANE_BULK, frame, err);
    if (rc == ERR_FULL && script_tell_full(script)) {
        char file[256];
        struct log_context context = {.code = err_name(ERR_FULL)};
        api_log_context(L, &context, file, sizeof file);
        log_event(LOG_WARN, &context, "%s", err->message);
    }
    return rc;
}

/* Publish -------------------------------------------------------------------------------------- */

/* core.publish(subject, data, headers, reply): true, or nil and an error. */
static int core_publish(lua_State *L)
{
    lua_settop(L, 4);
    const char *subject = api_subject(L, 1, "bus.publish");
    const char *reply = lua_isnil(L, 4) ? NULL : api_subject(L, 4, "bus.publish: reply");
    struct payload payload;
    api_payload(L, 2, "bus.publish", &payload);
    struct task *task = api_task(L, "bus.publish");
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    struct err err;
    if (api_headers(L, 3, payload.content_type, &headers, &err) != 0) {
        headers_clear(&headers);
        return api_misuse(L, "bus.publish: %s", err.message);
    }
    struct link_frame frame = {
        .subject = subject,
        .reply = reply,
        .data = payload.data,
        .len = payload.len,
        .headers = &headers,
    };
    int rc = api_send(L, task, &frame, &err);
    headers_clear(&headers);
    if (rc)
        return api_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* Request ----------------------------------------------------------------------------------------
 */

/* Its op's text is the subject and its number the timeout, for the sentence of a failure. */

static void on_reply(void *owner, natsMsg *reply, enum err_code code)
{
    struct op *op = owner;
    op->result.msg = reply;
    op->result.code = code;
    op_complete(op);
}

static void cancel_request(struct op *op)
{
    if (inbox_cancel(op->instance->engine->bus->inbox, op->handle))
        op_release(op);
}

int api_not_started(lua_State *L, struct op *op, const struct err *err)
{
    op->cancel = NULL;
    op_release(op);
    op_abandon(op);
    return api_fail(L, err);
}

static void describe_no_reply(const struct op *op, struct err *err)
{
    const char *subject = op->result.text ? op->result.text : "";
    char timeout[32];
    switch (op->result.code) {
    case ERR_NO_RESPONDERS:
        err_set(err, ERR_NO_RESPONDERS, "nobody serves \"%.200s\"", subject);
        return;
    case ERR_TIMEOUT:
        value_format_duration((int64_t)op->result.number, timeout, sizeof timeout);
        err_set(err, ERR_TIMEOUT, "no answer from \"%.200s\" within %s", subject, timeout);
        return;
    case ERR_PERMISSION:
        err_set(err, ERR_PERMISSION, "the server does not let this user publish to \"%.200s\"",
                subject);
        return;
    case ERR_CLOSED:
        err_set(err, ERR_CLOSED, "the host stopped before \"%.200s\" answered", subject);
        return;
    default:
        err_set(err, op->result.code, "the request to \"%.200s\" failed", subject);
        return;
    }
}

static int push_service_error(lua_State *L, natsMsg *msg, const char *text)
{
    struct err err;
    err_set(&err, ERR_SERVICE, "%s", *text ? text : "the service answered with an error");
    const char *code = wire_header(msg, "Nats-Service-Error-Code");
    long status = code ? strtol(code, NULL, 10) : 0;
    api_fail(L, &err);
    lua_pushinteger(L, status > 0 ? status : 500);
    lua_setfield(L, -2, "status");
    return 2;
}

static int push_answer(struct op *op, lua_State *L)
{
    natsMsg *msg = op->result.msg;
    if (op->result.code != ERR_NONE || !msg) {
        struct err err;
        describe_no_reply(op, &err);
        return api_fail(L, &err);
    }
    const char *text = wire_header(msg, "Nats-Service-Error");
    if (!text && wire_header(msg, "Nats-Service-Error-Code"))
        text = "";
    if (text)
        return push_service_error(L, msg, text);
    op->result.msg = NULL;
    api_push_reply(L, msg);
    return 1;
}

/* core.request(subject, data, timeout, headers): a message, or nil and an error. Waits. */
static int core_request(lua_State *L)
{
    lua_settop(L, 4);
    const char *subject = api_subject(L, 1, "bus.request");
    struct payload payload;
    api_payload(L, 2, "bus.request", &payload);
    struct task *task = api_task(L, "bus.request");
    struct engine *engine = task->instance->engine;
    int64_t timeout_ns =
        api_duration(L, 3, "bus.request", "timeout", atomic_load(&engine->request_timeout_ns));
    api_may_wait(L, "bus.request");
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    struct err err;
    if (api_headers(L, 4, payload.content_type, &headers, &err) != 0) {
        headers_clear(&headers);
        return api_misuse(L, "bus.request: %s", err.message);
    }
    struct op *op = op_new(task, push_answer, cancel_request);
    if (!op) {
        headers_clear(&headers);
        err_set(&err, ERR_MEMORY, "no memory for a request");
        return api_fail(L, &err);
    }
    op->result.text = strdup(subject);
    op->result.number = (uint64_t)timeout_ns;
    struct link_frame frame = {
        .subject = subject,
        .data = payload.data,
        .len = payload.len,
        .headers = &headers,
        .flow = task->instance->generation->script->flow,
    };
    op_retain(op);
    uint64_t id = inbox_request(engine->bus->inbox, &frame, clock_now_ns() + (uint64_t)timeout_ns,
                                on_reply, op, &err);
    headers_clear(&headers);
    if (!id)
        return api_not_started(L, op, &err);
    op->handle = id;
    return task_wait(L, op);
}

/* Log --------------------------------------------------------------------------------------------
 */

void api_log_context(lua_State *L, struct log_context *context, char *file, size_t size)
{
    struct instance *instance = instance_of(L);
    context->script = instance->generation->script->name;
    if (vm_where(L, file, size, &context->line))
        context->file = file;
    if (!instance->current)
        return;
    const struct task *root = instance->current->root;
    const struct delivery *delivery = root->delivery;
    context->handler = root->registration->handler;
    if (root->batch && delivery) {
        context->stream = delivery->stream;
        context->consumer = delivery->durable;
    } else if (delivery) {
        api_log_message(context, root, delivery);
    }
}

void api_log_message(struct log_context *context, const struct task *run,
                     const struct delivery *delivery)
{
    context->handler = run->registration->handler;
    context->subject = delivery->subject;
    if (!delivery->consumer)
        return;
    context->stream = delivery->stream;
    context->consumer = delivery->durable;
    context->sequence = delivery->stream_sequence;
    context->attempt = (unsigned)delivery->attempt;
    context->attempts = (unsigned)run->registration->attempts;
}

/* Who reads the log shall still find the next line. */
#define LOGGED_MOST 65536

/* core.log.<level>(text, fields): the text is a string, or what is no table. Upvalues: level, its
 * name. */
static int core_log(lua_State *L)
{
    enum log_level level = (enum log_level)lua_tointeger(L, lua_upvalueindex(1));
    const char *name = lua_tostring(L, lua_upvalueindex(2));
    lua_settop(L, 2);
    if (!lua_isnil(L, 2) && lua_type(L, 2) != LUA_TTABLE)
        return api_misuse(L, "bus.log.%s: the fields must be a table, got %s", name,
                          api_type_name(L, 2));
    if (!log_enabled(level))
        return 0;
    struct log_context context = {0};
    if (!lua_isnil(L, 2)) {
        api_json_describe(L, 2);
        context.fields = lua_tostring(L, -1);
        /* A list has no names that its items could stand under. */
        if (context.fields[0] != '{') {
            lua_pushfstring(L, "{\"items\":%s}", context.fields);
            context.fields = lua_tostring(L, -1);
        }
    }
    char file[256];
    api_log_context(L, &context, file, sizeof file);
    size_t len = 0;
    const char *text = lua_tolstring(L, 1, &len);
    if (len > LOGGED_MOST)
        log_event(level, &context, "%.*s ... (%zu bytes)", LOGGED_MOST, text, len);
    else
        log_event(level, &context, "%s", text ? text : "");
    return 0;
}

static void open_log(lua_State *L)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {
        {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN}, {"error", LOG_ERROR}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        lua_pushinteger(L, levels[i].level);
        lua_pushstring(L, levels[i].name);
        lua_pushcclosure(L, core_log, 2);
        lua_setfield(L, -2, levels[i].name);
    }
    lua_setfield(L, -2, "log");
}

void api_bus_open(lua_State *L)
{
    const struct instance *instance = instance_of(L);
    const struct engine_options *options = &instance->engine->options;
    lua_pushcfunction(L, core_publish);
    lua_setfield(L, -2, "publish");
    lua_pushcfunction(L, core_request);
    lua_setfield(L, -2, "request");
    open_log(L);
    lua_pushstring(L, options->version ? options->version : "");
    lua_setfield(L, -2, "version");
    const char *settings = instance->generation->policy->settings_json;
    struct err err;
    if (api_json_decode(L, settings, strlen(settings), &err) != 0)
        luaL_error(L, "settings: %s", err.message);
    lua_setfield(L, -2, "settings");
}
