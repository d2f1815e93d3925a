/* api_js - publishing to JetStream. Options have been checked by the Lua side; what Lua could get
 * wrong all the same is checked here again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_js.h"
#include "base/value.h"

/* What a publish says besides its subject and data. */
struct publish_args {
    struct headers headers;     /* owned */
    char id[1280];              /* id_len of it, and a NUL */
    size_t id_len;              /* 0: a random one */
    int64_t timeout_ns;         /* 0: the outbox's */
    int attempts;               /* 0: the outbox's */
    bool derived_id, wary;      /* from the input; a duplicate is told of after a retry, too */
    bool trial;                 /* if it fails the Lua side does something else: nothing is noted */
    uint64_t ticket;            /* its place in the line for room; 0: it has none */
    const struct message *from; /* what the user says it comes from; on the stack */
    char room[HEADERS_ROOM];    /* of the headers */
};

/* Field by field: the texts are large and need no zeroes. */
static void publish_init(struct publish_args *publish)
{
    publish->headers = headers_in(publish->room, sizeof publish->room);
    publish->id_len = 0;
    publish->timeout_ns = 0;
    publish->attempts = 0;
    publish->derived_id = publish->trial = publish->wary = false;
    publish->ticket = 0;
    publish->from = NULL;
}

/* --- Options --- */

#define SEQUENCE_MAX 9007199254740992.0

static void check_sequence(lua_State *L, int index, const char *field)
{
    double number = lua_tonumber(L, index);
    if (lua_type(L, index) != LUA_TNUMBER || !(number >= 0 && number <= SEQUENCE_MAX) ||
        number != floor(number))
        api_misuse(L, "js.publish: expect.%s must be a sequence number, got %s", field,
                   api_type_name(L, index));
}

static int add_expectation(struct headers *headers, lua_State *L, const char *header,
                           struct err *err)
{
    char number[32];
    size_t len;
    const char *text;
    if (lua_type(L, -1) == LUA_TNUMBER) {
        len = (size_t)snprintf(number, sizeof number, "%.0f", lua_tonumber(L, -1));
        text = number;
    } else {
        text = lua_tolstring(L, -1, &len);
    }
    return headers_add(headers, header, text, len, err);
}

static const struct {
    const char *field, *header;
    bool number;
} expectations[] = {
    {"stream", "Nats-Expected-Stream", false},
    {"last_sequence", "Nats-Expected-Last-Sequence", true},
    {"last_subject_sequence", "Nats-Expected-Last-Subject-Sequence", true},
    {"last_id", "Nats-Expected-Last-Msg-Id", false},
    {"subject", "Nats-Expected-Last-Subject-Sequence-Subject", false},
};
#define EXPECTATIONS (sizeof expectations / sizeof *expectations)

/* Checks options.expect, and leaves its fields on the stack, in order of `expectations`. */
static void push_expectations(lua_State *L, int options)
{
    lua_getfield(L, options, "expect");
    int expect = lua_gettop(L);
    if (!lua_isnil(L, expect) && lua_type(L, expect) != LUA_TTABLE)
        api_misuse(L, "js.publish: expect must be a table, got %s", api_type_name(L, expect));
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        if (lua_isnil(L, expect))
            lua_pushnil(L);
        else
            lua_getfield(L, expect, expectations[i].field);
        if (lua_isnil(L, -1))
            continue;
        if (expectations[i].number)
            check_sequence(L, lua_gettop(L), expectations[i].field);
        else if (lua_type(L, -1) != LUA_TSTRING)
            api_misuse(L, "js.publish: expect.%s must be a string, got %s", expectations[i].field,
                       api_type_name(L, -1));
    }
    lua_remove(L, expect);
}

/* The scalars of the options; the id that the user gave is left on the stack, or nil. */
static void read_options(lua_State *L, int options, struct publish_args *publish)
{
    lua_getfield(L, options, "timeout");
    publish->timeout_ns = api_duration(L, -1, "js.publish", "timeout", 0);
    lua_getfield(L, options, "attempts");
    double attempts = lua_tonumber(L, -1);
    if (!lua_isnil(L, -1) && (lua_type(L, -1) != LUA_TNUMBER || !(attempts >= 1) ||
                              attempts > 1e6 || attempts != floor(attempts)))
        api_misuse(L, "js.publish: attempts must be a whole number from 1 on, got %s",
                   lua_type(L, -1) == LUA_TNUMBER ? "another number" : api_type_name(L, -1));
    publish->attempts = (int)attempts;
    lua_pop(L, 2);
    lua_getfield(L, options, "id");
    size_t len;
    if (lua_isnil(L, -1))
        return;
    if (lua_type(L, -1) != LUA_TSTRING)
        api_misuse(L, "js.publish: id must be a string, got %s", api_type_name(L, -1));
    const char *id = lua_tolstring(L, -1, &len);
    if (len == 0 || len >= sizeof publish->id || strpbrk(id, "\r\n") || strlen(id) != len)
        api_misuse(L, "js.publish: id must have 1 to %d bytes, and no line break or NUL",
                   (int)sizeof publish->id - 1);
    memcpy(publish->id, id, len + 1);
    publish->id_len = len;
}

/* A Nats-Msg-Id among the headers is the id, unless the option says another. It leaves them: the
 * outbox writes its own. */
static int take_id_header(struct publish_args *publish, struct err *err)
{
    struct span id = headers_get(&publish->headers, "Nats-Msg-Id");
    if (!id.at)
        return 0;
    if (!publish->id_len) {
        if (id.len >= sizeof publish->id)
            return err_set(err, ERR_INVALID, "the header \"Nats-Msg-Id\" is too long");
        span_text(id, publish->id, sizeof publish->id);
        publish->id_len = id.len;
    }
    struct headers rest = {0};
    struct header_field field;
    size_t position = 0;
    int code = 0;
    while (code == 0 && headers_next(&publish->headers, &position, &field)) {
        if (!span_is(field.name, "Nats-Msg-Id"))
            code = headers_copy(&rest, field.name, field.value, err);
    }
    headers_clear(&publish->headers);
    publish->headers = rest;
    return code;
}

/* The option's own header: options.own = { name =, value = }, at `own` or nil there. */
static int add_own(lua_State *L, int own, struct headers *headers, struct err *err)
{
    if (!lua_istable(L, own))
        return 0;
    lua_getfield(L, own, "name");
    lua_getfield(L, own, "value");
    size_t len;
    const char *name = lua_tostring(L, -2), *value = lua_tolstring(L, -1, &len);
    int code = headers_get(headers, name).at
                   ? err_set(err, ERR_INVALID, "the header \"%s\" is set by an option", name)
                   : headers_add(headers, name, value, len, err);
    lua_pop(L, 2);
    return code;
}

/* Fills publish->headers. Raises nothing: they hold memory. At `first` are the option's own header,
 * then the expectations; 0: there are none. */
static int fill_headers(lua_State *L, int headers, int first, const char *content_type,
                        struct publish_args *publish, struct err *err)
{
    int code = api_headers(L, headers, content_type, &publish->headers, err);
    if (first && code == 0)
        code = add_own(L, first, &publish->headers, err);
    for (size_t i = 0; first && code == 0 && i < EXPECTATIONS; i++) {
        lua_pushvalue(L, first + 1 + (int)i);
        if (!lua_isnil(L, -1))
            code = add_expectation(&publish->headers, L, expectations[i].header, err);
        lua_pop(L, 1);
    }
    return code ? code : take_id_header(publish, err);
}

/* --- Publishing --- */

/* options.needs = { level =, what = }: what the server must be able to do. A publish that cannot be
 * made counts as one that failed. */
static int check_needs(lua_State *L, int options, struct task *task, struct err *err)
{
    int code = 0;
    lua_getfield(L, options, "needs");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "level");
        lua_getfield(L, -2, "what");
        code =
            binding_js_require(task->instance, (int)lua_tointeger(L, -2), lua_tostring(L, -1), err);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    if (code)
        api_js_note_failure(task, err);
    return code;
}

/* options.from, which the Lua side has checked to be a message. */
static void read_from(lua_State *L, int options, struct publish_args *publish)
{
    lua_getfield(L, options, "from");
    publish->from = api_to_message(L, -1);
    lua_pop(L, 1);
}

/* What is published here for another run's input would be counted from 1 again, and get the ids of
 * what that run has published: the stream would drop it. */
static void check_from(lua_State *L, const struct task *task, const struct publish_args *publish,
                       const char *binding)
{
    if (publish->from && publish->from->run != task->root)
        api_misuse(L,
                   "%s: from must be a message that this handler was called with; for any other, "
                   "give an id",
                   binding);
}

/* In a batch nothing else tells which input a publish comes from, and so whether it was made
 * before. What publish holds is cleared before it raises. */
static void check_origin(lua_State *L, const struct task *task, struct publish_args *publish,
                         const char *binding)
{
    if (!task->root->batch || publish->id_len || publish->from)
        return;
    headers_clear(&publish->headers);
    api_misuse(L, "%s: in a batch, say from = msg (the message that this comes from), or id",
               binding);
}

/* What publish holds is cleared before it raises. */
static void derive_id(lua_State *L, struct task *task, const char *subject,
                      struct publish_args *publish)
{
    if (publish->id_len)
        return;
    const struct delivery *input = publish->from ? publish->from->delivery : NULL;
    if (task_message_id(task, input, subject, publish->id, sizeof publish->id) != 0) {
        headers_clear(&publish->headers);
        luaL_error(L, "not enough memory");
    }
    publish->id_len = strlen(publish->id);
    publish->derived_id = publish->id_len > 0;
}

/* Then nothing of it can have been published before. */
static bool is_first_run(const struct delivery *input)
{
    return input && input->attempt == 1 && !delivery_was_joined(input) &&
           handling_of(input)->runs == 1;
}

/* There is room, or was a moment ago: nil, nil, true, then for the Lua side to come again with: the
 * id, whether it is derived, and the ticket. */
static int push_again(struct op *op, lua_State *L)
{
    const struct binding_room *waits = op_more(op);
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushboolean(L, true);
    lua_pushstring(L, op->result.text);
    lua_pushboolean(L, op->result.trial);
    lua_pushnumber(L, (double)waits->room.ticket);
    return 6;
}

/* The same at once, and behind the ticket the text of a table: who waits must not see what becomes
 * of that meanwhile. */
static int push_text(lua_State *L, const struct payload *payload, struct publish_args *publish)
{
    headers_clear(&publish->headers);
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushboolean(L, true);
    lua_pushstring(L, publish->id_len ? publish->id : NULL);
    lua_pushboolean(L, publish->derived_id);
    lua_pushnumber(L, (double)publish->ticket);
    lua_pushlstring(L, payload->data, payload->len);
    return 7;
}

/* Too many bytes wait for their PubAck. Nothing of this message was copied. */
static int wait_for_room(lua_State *L, struct task *task, size_t bytes,
                         struct publish_args *publish)
{
    struct op *op = op_new_with(task, sizeof(struct binding_room), push_again, binding_cancel_room);
    char *id = publish->id_len ? strdup(publish->id) : NULL;
    headers_clear(&publish->headers);
    if (!op || (publish->id_len && !id)) {
        free(id);
        if (op) {
            op->cancel = NULL;
            op_abandon(op);
        }
        return luaL_error(L, "not enough memory");
    }
    op->result.text = id;
    op->result.trial = publish->derived_id;
    binding_wait_for_room(op, bytes, publish->ticket);
    return task_wait(L, op);
}

static int start(lua_State *L, struct task *task, const char *subject,
                 const struct payload *payload, struct publish_args *publish)
{
    struct err err;
    struct delivery *from = publish->from ? publish->from->delivery : NULL;
    struct delivery *input = from ? from : task->root->delivery;
    struct delivery *first = publish->derived_id && is_first_run(input) ? input : NULL;
    struct task_sending sending = {
        .operation = "publish",
        .subject = subject,
        .id = publish->id_len ? publish->id : NULL,
        .from = from,
        .len = payload->len,
    };
    size_t bytes = sizeof(struct publish) + payload->len + publish->headers.len;
    if (!publish->trial && !binding_has_room(task->instance, bytes, publish->ticket))
        return lua_type(L, 2) == LUA_TTABLE ? push_text(L, payload, publish)
                                            : wait_for_room(L, task, bytes, publish);
    struct trace_span *span = binding_trace_send(task, &sending, &publish->headers);
    struct outbox_message message = {
        .subject = subject,
        .data = payload->data,
        .len = payload->len,
        .headers = publish->headers.count ? &publish->headers : NULL,
        .id = {publish->id_len ? publish->id : NULL, publish->id_len},
        .timeout_ns = publish->timeout_ns,
        .attempts = publish->attempts,
        .again = publish->id_len && !first,
        .wary = publish->wary && !first,
        .waits = !publish->trial,
        .at_once = publish->trial,
    };
    struct op *op = op_new_with(task, sizeof(struct publishing) + outbox_bytes(&message),
                                api_js_push_receipt, binding_cancel_publish);
    if (!op) {
        headers_clear(&publish->headers);
        binding_end_span(task, span, NULL);
        return luaL_error(L, "not enough memory");
    }
    op->work = first;
    op->span = span;
    op->result.trial = publish->trial;
    struct publishing *publishing = op_more(op);
    int code = binding_publish(op, publishing->bytes, &message, api_js_on_result, &err);
    headers_clear(&publish->headers);
    if (!code)
        return task_wait(L, op);
    if (!publish->trial)
        api_js_note_failure(task, &err);
    binding_fail_span(op, &err);
    return api_not_started(L, op, &err);
}

/* The running task, as of api_task. */
static struct task *publishing_task(lua_State *L, const char *binding, const char *subject)
{
    struct task *task = instance_of(L)->current;
    if (task && task->cancelled)
        api_note_abandoned(task, subject);
    return api_task(L, binding);
}

/* core.js_publish(subject, data, options, content_type, binding): what api_js_push_receipt
 * says, or push_again. Waits. */
static int core_js_publish(lua_State *L)
{
    lua_settop(L, 5);
    const char *binding = lua_isnil(L, 5) ? "js.publish" : luaL_checkstring(L, 5);
    struct publish_args publish;
    publish_init(&publish);
    const char *subject = api_subject(L, 1, binding);
    bool plain = lua_isnil(L, 3);
    int headers = 3;
    if (!plain) {
        luaL_checktype(L, 3, LUA_TTABLE);
        read_options(L, 3, &publish);
        read_from(L, 3, &publish);
        lua_getfield(L, 3, "derived");
        publish.derived_id = lua_toboolean(L, -1) && publish.id_len;
        lua_getfield(L, 3, "trial");
        publish.trial = lua_toboolean(L, -1);
        lua_getfield(L, 3, "wary");
        publish.wary = lua_toboolean(L, -1);
        lua_getfield(L, 3, "ticket");
        publish.ticket = (uint64_t)lua_tonumber(L, -1);
        lua_pop(L, 4);
        lua_getfield(L, 3, "headers");
        headers = lua_gettop(L);
        lua_getfield(L, 3, "own");
        push_expectations(L, 3);
    }
    struct payload payload;
    api_payload(L, 2, binding, &payload);
    const char *content_type = lua_isnil(L, 4) ? payload.content_type : luaL_checkstring(L, 4);
    struct task *task = publishing_task(L, binding, subject);
    check_from(L, task, &publish, binding);
    api_may_wait(L, binding);
    struct err err;
    if (!plain && check_needs(L, 3, task, &err) != 0)
        return api_fail(L, &err);
    if ((!plain || content_type) &&
        fill_headers(L, headers, plain ? 0 : headers + 1, content_type, &publish, &err) != 0) {
        headers_clear(&publish.headers);
        return api_misuse(L, "%s: %s", binding, err.message);
    }
    check_origin(L, task, &publish, binding);
    derive_id(L, task, subject, &publish);
    return start(L, task, subject, &payload, &publish);
}

/* core.js_prepare(subject, data, options, binding, of_bucket): what must be taken down now of a
 * later publish: text, content type, id or nil, was it derived. of_bucket: a write of a bucket,
 * which waits. */
static int core_js_prepare(lua_State *L)
{
    lua_settop(L, 5);
    const char *binding = luaL_checkstring(L, 4);
    bool of_bucket = lua_toboolean(L, 5);
    const char *subject = api_subject(L, 1, binding);
    struct publish_args publish;
    publish_init(&publish);
    if (!lua_isnil(L, 3)) {
        read_options(L, 3, &publish);
        read_from(L, 3, &publish);
    }
    struct payload payload;
    bool sorts = lua_istable(L, 2) && of_bucket;
    if (sorts) { /* the ids of its writes have a hash of the value */
        api_json_encode_sorted(L, 2, binding);
        lua_replace(L, 2);
    }
    api_payload(L, 2, binding, &payload);
    payload.content_type = sorts ? "application/json" : payload.content_type;
    struct task *task = publishing_task(L, binding, subject);
    check_from(L, task, &publish, binding);
    if (of_bucket)
        api_may_wait(L, binding);
    if (!lua_isnil(L, 3)) {
        int headers = lua_gettop(L) + 1;
        lua_getfield(L, 3, "headers");
        lua_getfield(L, 3, "own");
        push_expectations(L, 3);
        struct err err;
        int code = fill_headers(L, headers, headers + 1, NULL, &publish, &err);
        headers_clear(&publish.headers);
        if (code)
            return api_misuse(L, "%s: %s", binding, err.message);
    }
    check_origin(L, task, &publish, binding);
    derive_id(L, task, subject, &publish);
    lua_pushlstring(L, payload.data, payload.len);
    lua_pushstring(L, payload.content_type);
    lua_pushstring(L, publish.id_len ? publish.id : NULL);
    lua_pushboolean(L, publish.derived_id);
    return 4;
}

void api_js_open(lua_State *L)
{
    lua_pushcfunction(L, core_js_publish);
    lua_setfield(L, -2, "js_publish");
    lua_pushcfunction(L, core_js_prepare);
    lua_setfield(L, -2, "js_prepare");
}
