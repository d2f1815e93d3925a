/* api_bus - core NATS and what every script has: publish, request, log, settings, version. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/log.h"
#include "base/value.h"

/* Sending -----------------------------------------------------------------------------------------
 */

int api_send(lua_State *L, struct task *task, struct link_frame *frame, struct err *err)
{
    int code = binding_send(task, frame, err);
    if (code == ERR_FULL && binding_may_log_full(task)) {
        char file[256];
        struct log_context context = {.code = err_name(ERR_FULL)};
        api_log_context(L, &context, file, sizeof file);
        log_event(LOG_WARN, &context, "%s", err->message);
    }
    return code;
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
    struct task_sending sending = {.operation = "publish", .subject = subject, .len = payload.len};
    struct trace_span *span = binding_trace_send(task, &sending, &headers);
    struct link_frame frame = {
        .subject = subject,
        .reply = reply,
        .data = payload.data,
        .len = payload.len,
        .headers = headers.count ? &headers : NULL,
    };
    int code = api_send(L, task, &frame, &err);
    headers_clear(&headers);
    binding_end_span(task, span, code ? &err : NULL);
    if (code)
        return api_fail(L, &err);
    binding_count_publish(task);
    lua_pushboolean(L, 1);
    return 1;
}

/* Request ----------------------------------------------------------------------------------------
 */

/* Behind its op, whose number is the timeout. */
struct requesting {
    struct inbox_request request; /* the inbox's; the first, as binding_request wants it */
    char subject[];
};

void api_on_reply(void *owner, struct packet *reply, enum err_code code)
{
    struct op *op = owner;
    op->result.code = code;
    if (!reply) {
        op_complete(op);
        return;
    }
    op->result.reply = packet_take(reply);
    op_complete_by_reply(op);
}

int api_not_started(lua_State *L, struct op *op, const struct err *err)
{
    op->cancel = NULL;
    op_abandon(op);
    return api_fail(L, err);
}

void api_describe_no_reply(const char *subject, int64_t timeout_ns, enum err_code code,
                           struct err *err)
{
    char timeout[32];
    switch (code) {
    case ERR_NO_RESPONDERS:
        err_set(err, ERR_NO_RESPONDERS, "nobody serves \"%.200s\"", subject);
        return;
    case ERR_TIMEOUT:
        value_format_duration(timeout_ns, timeout, sizeof timeout);
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
        err_set(err, code, "the request to \"%.200s\" failed", subject);
        return;
    }
}

bool api_push_service_error(lua_State *L, const struct header_block *headers, struct err *err)
{
    unsigned long long status = 0;
    struct span text = header_block_find(headers, "Nats-Service-Error");
    struct span code = header_block_find(headers, "Nats-Service-Error-Code");
    char sentence[sizeof err->message];
    if (!text.at && !code.at)
        return false;
    span_text(text, sentence, sizeof sentence);
    err_set(err, ERR_SERVICE, "%s", *sentence ? sentence : "the service answered with an error");
    if (!span_number(code, &status) || status == 0 || status > INT_MAX)
        status = 500;
    api_push_error(L, err);
    lua_pushinteger(L, (lua_Integer)status);
    lua_setfield(L, -2, "status");
    return true;
}

static int push_answer(struct op *op, lua_State *L)
{
    struct err err;
    struct packet *reply = &op->result.reply;
    const struct requesting *requesting = op_more(op);
    if (op->result.code != ERR_NONE || !reply->subject) {
        api_describe_no_reply(requesting->subject, (int64_t)op->result.number, op->result.code,
                              &err);
        binding_count_request(op, err.code);
        binding_fail_span(op, &err);
        return api_fail(L, &err);
    }
    lua_pushnil(L);
    if (api_push_service_error(L, &reply->headers, &err)) {
        binding_count_request(op, ERR_SERVICE);
        binding_fail_span(op, &err);
        return 2;
    }
    binding_count_request(op, ERR_NONE);
    api_push_reply(L, reply);
    return 1;
}

static void cancel_request(struct op *op)
{
    binding_count_request(op, ERR_CANCELLED);
    binding_cancel_request(op);
}

/* core.request(subject, data, timeout, headers): a message, or nil and an error. Waits. */
static int core_request(lua_State *L)
{
    lua_settop(L, 4);
    const char *subject = api_subject(L, 1, "bus.request");
    struct payload payload;
    api_payload(L, 2, "bus.request", &payload);
    struct task *task = api_task(L, "bus.request");
    int64_t timeout_ns =
        api_duration(L, 3, "bus.request", "timeout", binding_request_timeout_ns(task->instance));
    api_may_wait(L, "bus.request");
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    struct err err;
    if (api_headers(L, 4, payload.content_type, &headers, &err) != 0) {
        headers_clear(&headers);
        return api_misuse(L, "bus.request: %s", err.message);
    }
    size_t subject_size = strlen(subject) + 1;
    struct op *op =
        op_new_with(task, sizeof(struct requesting) + subject_size, push_answer, cancel_request);
    if (!op) {
        headers_clear(&headers);
        err_set(&err, ERR_MEMORY, "no memory for a request");
        return api_fail(L, &err);
    }
    struct requesting *requesting = op_more(op);
    memcpy(requesting->subject, subject, subject_size);
    op->result.number = (uint64_t)timeout_ns;
    struct task_sending sending = {.operation = "request", .subject = subject, .len = payload.len};
    op->span = binding_trace_send(task, &sending, &headers);
    struct link_frame frame = {
        .subject = requesting->subject,
        .data = payload.data,
        .len = payload.len,
        .headers = headers.count ? &headers : NULL,
    };
    int code = binding_request(op, &frame, timeout_ns, api_on_reply, &err);
    headers_clear(&headers);
    if (!code)
        return task_wait(L, op);
    binding_count_request(op, err.code);
    binding_fail_span(op, &err);
    return api_not_started(L, op, &err);
}

/* Log --------------------------------------------------------------------------------------------
 */

void api_log_context(lua_State *L, struct log_context *context, char *file, size_t size)
{
    struct instance *instance = instance_of(L);
    context->script = binding_script_name(instance);
    context->generation = binding_generation(instance);
    if (where_find(L, file, size, &context->line))
        context->file = file;
    if (!instance->current)
        return;
    const struct task *root = instance->current->root;
    const struct delivery *delivery = root->delivery;
    context->handler = root->registration->handler;
    binding_log_trace(instance->current, context);
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
    context->subject = delivery->packet.subject;
    context->stream = delivery->stream;
    context->consumer = delivery->durable;
    context->sequence = delivery->stream_sequence;
    if (!delivery->consumer)
        return;
    context->attempt = (unsigned)delivery->attempt;
    context->attempts = (unsigned)run->registration->attempts;
}

/* A longer text would bury the next line of the log. */
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
    struct log_context context = {.verbatim = true};
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
    lua_pushcfunction(L, core_publish);
    lua_setfield(L, -2, "publish");
    lua_pushcfunction(L, core_request);
    lua_setfield(L, -2, "request");
    open_log(L);
    lua_pushstring(L, binding_version(instance));
    lua_setfield(L, -2, "version");
    const char *settings = binding_settings(instance);
    struct err err;
    if (api_json_decode(L, settings, strlen(settings), NULL, &err) != 0)
        luaL_error(L, "settings: %s", err.message);
    lua_setfield(L, -2, "settings");
}
