/* api_msg - the message object: a userdata with a copy of what is small, or one that holds a
 * reference on its delivery, or owns the message of a reply. Fields are read from there when they
 * are asked for; headers are read once, into the userdata's environment table. Verdicts and
 * replies: api_verdict.c. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"
#include "base/value.h"
#include "bus/reap.h"
#include "engine/internal.h"

#define HEADERS_METATABLE "moonbus.headers"

enum field {
    FIELD_NONE,
    FIELD_SUBJECT,
    FIELD_DATA,
    FIELD_HEADERS,
    FIELD_REPLY,
    FIELD_STREAM,
    FIELD_CONSUMER,
    FIELD_SEQUENCE,
    FIELD_ATTEMPT,
    FIELD_PENDING,
    FIELD_TIMESTAMP,
    FIELD_ID,
};

/* The largest message that is copied into its object. */
#define COPY_MAX 4096

/* --- The object --- */

static void drop_message(struct vm_held *held)
{
    struct message *message = (struct message *)held;
    message->vm->external_bytes -= message->external_bytes;
    if (message->delivery)
        delivery_release(message->delivery);
    else
        reap(message->msg);
}

static struct message *push_object(lua_State *L, enum message_kind kind, size_t copied)
{
    struct message *message = lua_newuserdata(L, sizeof *message + copied);
    memset(message, 0, sizeof *message);
    message->kind = kind;
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance_of(L)->message_ref);
    lua_setmetatable(L, -2);
    return message;
}

/* From now on the object keeps the message. */
static void own(lua_State *L, struct message *message, natsMsg *msg)
{
    message->msg = msg;
    message->subject = natsMsg_GetSubject(msg);
    message->data = natsMsg_GetData(msg);
    message->len = (size_t)natsMsg_GetDataLength(msg);
    message->external_bytes = message->len + 256;
    message->vm = vm_of(L);
    vm_own(L, &message->held, message->external_bytes, drop_message);
}

/* nats.c parses headers when they are first asked for, and writes to the message then. A message
 * may be read here while its dead letter is being made elsewhere, so that is done now. */
static bool has_headers(natsMsg *msg)
{
    const char **keys = NULL;
    int count = 0;
    if (natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK)
        return false;
    free((void *)keys);
    return count > 0;
}

static const char *append(char **at, const char *text, size_t len)
{
    char *copy = *at;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

/* The object is held in a table until its run is over, so that it can be ended then. */
static void push_copy(lua_State *L, struct task *task, struct delivery *delivery,
                      enum message_kind kind)
{
    size_t subject_len = strlen(delivery->subject);
    size_t reply_len = delivery->reply_to ? strlen(delivery->reply_to) : 0;
    struct message *message = push_object(L, kind, subject_len + reply_len + delivery->len + 3);
    char *at = message->text;
    message->whole = true;
    message->delivery = delivery;
    message->subject = append(&at, delivery->subject, subject_len);
    if (delivery->reply_to)
        message->reply = append(&at, delivery->reply_to, reply_len);
    message->data = append(&at, delivery->data, delivery->len);
    message->len = delivery->len;
    task->message = message;
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->instance->running_ref);
    lua_pushvalue(L, -2);
    message->place = luaL_ref(L, -2);
    lua_pop(L, 1);
}

void api_push_message(lua_State *L, struct task *task, struct delivery *delivery)
{
    enum message_kind kind = delivery->consumer ? MESSAGE_STREAM : MESSAGE_CORE;
    bool headers = has_headers(delivery->msg);
    if (!headers && !task->batch && delivery->len <= COPY_MAX) {
        push_copy(L, task, delivery, kind);
        return;
    }
    struct message *message = push_object(L, kind, 0);
    message->delivery = delivery_retain(delivery);
    message->reply = delivery->reply_to;
    own(L, message, delivery->msg);
}

void api_end_message(struct task *task)
{
    struct message *message = task->message;
    const struct delivery *delivery = message->delivery;
    lua_State *L = task->instance->vm->L;
    message->delivery = NULL;
    message->stream = task->registration->consumer.stream;
    message->durable = task->registration->consumer.durable;
    message->sequence = delivery->stream_sequence;
    message->attempt = delivery->attempt;
    message->pending = delivery->pending;
    message->timestamp_ns = delivery->timestamp_ns;
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->instance->running_ref);
    luaL_unref(L, -1, message->place);
    lua_pop(L, 1);
}

void api_push_reply(lua_State *L, natsMsg *msg)
{
    struct message *message = push_object(L, MESSAGE_REPLY, 0);
    message->reply = natsMsg_GetReply(msg);
    own(L, message, msg);
}

static struct message *to_message(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index))
        return NULL;
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance_of(L)->message_ref);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? lua_touserdata(L, index) : NULL;
}

struct message *api_to_message(lua_State *L, int index)
{
    return to_message(L, index);
}

static int core_is_message(lua_State *L)
{
    lua_pushboolean(L, lua_gettop(L) >= 1 && to_message(L, 1) != NULL);
    return 1;
}

struct message *api_message(lua_State *L, const char *method)
{
    struct message *message = to_message(L, 1);
    if (!message)
        api_misuse(L, "msg:%s: call it with a colon, on a message (got %s)", method,
                   api_type_name(L, 1));
    return message;
}

/* --- Headers --- */

/* Pushes a table {name = first value}, with the names as they came. msg may be NULL. */
static void push_header_table(lua_State *L, natsMsg *msg)
{
    lua_newtable(L);
    luaL_getmetatable(L, HEADERS_METATABLE);
    lua_setmetatable(L, -2);
    const char **keys = NULL;
    int count = 0;
    if (!msg || natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK)
        return;
    /* keys is nats.c's list, in memory of our own: copied before Lua can run out of its own. */
    const char **list = count > 0 ? lua_newuserdata(L, (size_t)count * sizeof *list) : NULL;
    if (list)
        memcpy(list, keys, (size_t)count * sizeof *list);
    for (int i = 0; i < count; i++) {
        const char *value = NULL;
        if (natsMsgHeader_Get(msg, list[i], &value) != NATS_OK)
            continue;
        lua_pushstring(L, list[i]);
        lua_pushstring(L, value ? value : "");
        lua_rawset(L, -4);
    }
    if (list)
        lua_pop(L, 1);
    free((void *)keys);
}

/* The message's headers table; the same each time. */
static void push_headers(lua_State *L, struct message *message)
{
    if (message->cached) {
        lua_getfenv(L, 1);
        lua_getfield(L, -1, "headers");
        return;
    }
    lua_createtable(L, 0, 1);
    push_header_table(L, message->msg);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "headers");
    lua_pushvalue(L, -2);
    lua_setfenv(L, 1);
    message->cached = true;
}

/* __index of the headers: the names as they came have not matched; without case they may. */
static int headers_index(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TTABLE || lua_type(L, 2) != LUA_TSTRING)
        return 0;
    const char *name = lua_tostring(L, 2);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && strcasecmp(lua_tostring(L, -2), name) == 0)
            return 1;
        lua_pop(L, 1);
    }
    return 0;
}

static const char *header_name(lua_State *L, const char *method)
{
    if (lua_type(L, 2) != LUA_TSTRING) {
        api_misuse(L, "msg:%s: the name must be a string, got %s", method, api_type_name(L, 2));
        return NULL;
    }
    return lua_tostring(L, 2);
}

static int method_header(lua_State *L)
{
    struct message *message = api_message(L, "header");
    const char *name = header_name(L, "header");
    const char *value = message->msg ? wire_header(message->msg, name) : NULL;
    if (!value)
        lua_pushnil(L);
    else
        lua_pushstring(L, value);
    return 1;
}

static void append_values(lua_State *L, natsMsg *msg, const char *key)
{
    const char **values = NULL;
    int count = 0;
    if (natsMsgHeader_Values(msg, key, &values, &count) != NATS_OK)
        return;
    int list = lua_gettop(L);
    const char **copy = count > 0 ? lua_newuserdata(L, (size_t)count * sizeof *copy) : NULL;
    if (copy)
        memcpy(copy, values, (size_t)count * sizeof *copy);
    int have = (int)lua_objlen(L, list);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, copy[i] ? copy[i] : "");
        lua_rawseti(L, list, have + i + 1);
    }
    lua_settop(L, list);
    free((void *)values);
}

/* All values, also of names that differ in case only; an empty list when there are none. */
static int method_header_values(lua_State *L)
{
    struct message *message = api_message(L, "header_values");
    const char *name = header_name(L, "header_values");
    push_headers(L, message);
    int headers = lua_gettop(L);
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, headers)) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        if (key && strcasecmp(key, name) == 0) {
            lua_pushvalue(L, -2);
            append_values(L, message->msg, key);
            lua_pop(L, 1);
        }
    }
    return 1;
}

/* --- JSON --- */

/* msg:json(): raises bad_payload, which sends the message straight to the dead letter;
 * msg:json{strict = false}: nil and the error. */
static int method_json(lua_State *L)
{
    struct message *message = api_message(L, "json");
    bool strict = true;
    lua_settop(L, 2);
    if (lua_type(L, 2) == LUA_TTABLE) {
        lua_getfield(L, 2, "strict");
        if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
            return api_misuse(L, "msg:json: strict must be true or false, got %s",
                              api_type_name(L, -1));
        strict = lua_isnil(L, -1) || lua_toboolean(L, -1);
    } else if (!lua_isnil(L, 2)) {
        return api_misuse(L, "msg:json: the options must be a table, got %s", api_type_name(L, 2));
    }
    struct err err;
    if (api_json_decode(L, message->data, message->len, &err) == 0)
        return 1;
    if (!strict)
        return api_fail(L, &err);
    if (message->delivery)
        message->delivery->unreadable = true;
    api_push_error(L, &err);
    return lua_error(L);
}

/* --- Fields --- */

static void push_string(lua_State *L, const char *text)
{
    if (text)
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
}

/* What every message has. False: it is another field. */
static bool push_common_field(lua_State *L, struct message *message, enum field field)
{
    switch (field) {
    case FIELD_SUBJECT:
        push_string(L, message->subject);
        return true;
    case FIELD_DATA:
        lua_pushlstring(L, message->data, message->len);
        return true;
    case FIELD_HEADERS:
        push_headers(L, message);
        return true;
    case FIELD_REPLY:
        push_string(L, message->reply);
        return true;
    default:
        return false;
    }
}

char *api_message_id(const struct message *message, char *buf, size_t size)
{
    if (message->delivery)
        return delivery_id(message->delivery, buf, size);
    if (message->kind != MESSAGE_STREAM)
        *buf = '\0';
    else
        delivery_make_id(message->stream, message->timestamp_ns, message->durable,
                         message->sequence, buf, size);
    return buf;
}

static void push_stream_field(lua_State *L, const struct message *message, enum field field)
{
    const struct delivery *delivery = message->delivery;
    char id[1024];
    switch (field) {
    case FIELD_STREAM:
        push_string(L, delivery ? delivery->stream : message->stream);
        return;
    case FIELD_CONSUMER:
        push_string(L, delivery ? delivery->durable : message->durable);
        return;
    case FIELD_SEQUENCE:
        lua_pushnumber(L, (double)(delivery ? delivery->stream_sequence : message->sequence));
        return;
    case FIELD_PENDING:
        lua_pushnumber(L, (double)(delivery ? delivery->pending : message->pending));
        return;
    case FIELD_ID:
        lua_pushstring(L, api_message_id(message, id, sizeof id));
        return;
    default:
        lua_pushnil(L);
        return;
    }
}

static void push_delivery_field(lua_State *L, const struct message *message, enum field field)
{
    const struct delivery *delivery = message->delivery;
    if (field == FIELD_ATTEMPT)
        lua_pushnumber(L, (double)(delivery ? delivery->attempt : message->attempt));
    else if (field == FIELD_TIMESTAMP)
        lua_pushnumber(L, (double)(delivery ? delivery->timestamp_ns : message->timestamp_ns) /
                              NS_PER_S);
    else if (message->kind == MESSAGE_STREAM)
        push_stream_field(L, message, field);
    else
        lua_pushnil(L);
}

/* Upvalue: {name = method or number of a field}. */
static int message_index(lua_State *L)
{
    struct message *message = to_message(L, 1);
    if (!message)
        return 0;
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (lua_type(L, 2) != LUA_TNUMBER)
        return 1;
    enum field field = (enum field)lua_tointeger(L, 2);
    if (push_common_field(L, message, field))
        return 1;
    if (message->kind != MESSAGE_REPLY)
        push_delivery_field(L, message, field);
    else
        lua_pushnil(L);
    return 1;
}

static int message_newindex(lua_State *L)
{
    return api_misuse(L, "a message's fields cannot be set (msg.%s = ...): keep it in a local",
                      lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?");
}

static int message_tostring(lua_State *L)
{
    struct message *message = api_message(L, "tostring");
    if (message->kind == MESSAGE_STREAM)
        lua_pushfstring(
            L, "message \"%s\" (%s #%f)", message->subject,
            message->delivery ? message->delivery->stream : message->stream,
            (double)(message->delivery ? message->delivery->stream_sequence : message->sequence));
    else
        lua_pushfstring(L, "%s \"%s\"", message->kind == MESSAGE_CORE ? "message" : "reply",
                        message->subject);
    return 1;
}

/* --- Opening --- */

static void push_members(lua_State *L)
{
    static const struct {
        const char *name;
        enum field field;
    } fields[] = {
        {"subject", FIELD_SUBJECT},     {"data", FIELD_DATA},
        {"headers", FIELD_HEADERS},     {"reply", FIELD_REPLY},
        {"stream", FIELD_STREAM},       {"consumer", FIELD_CONSUMER},
        {"sequence", FIELD_SEQUENCE},   {"attempt", FIELD_ATTEMPT},
        {"pending", FIELD_PENDING},     {"id", FIELD_ID},
        {"timestamp", FIELD_TIMESTAMP},
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushinteger(L, fields[i].field);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_pushcfunction(L, method_json);
    lua_setfield(L, -2, "json");
    lua_pushcfunction(L, method_header);
    lua_setfield(L, -2, "header");
    lua_pushcfunction(L, method_header_values);
    lua_setfield(L, -2, "header_values");
    api_verdict_open(L);
}

static void set_function(lua_State *L, const char *name, lua_CFunction function)
{
    lua_pushcfunction(L, function);
    lua_setfield(L, -2, name);
}

void api_msg_open(lua_State *L)
{
    lua_pushcfunction(L, core_is_message);
    lua_setfield(L, -2, "is_message");
    struct instance *instance = instance_of(L);
    lua_newtable(L);
    instance->running_ref = luaL_ref(L, LUA_REGISTRYINDEX);

    luaL_newmetatable(L, HEADERS_METATABLE);
    set_function(L, "__index", headers_index);
    lua_pushliteral(L, "headers");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);

    lua_newtable(L);
    lua_pushvalue(L, -1);
    instance->message_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    push_members(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "methods"); /* core.methods: the Lua side wraps those that wait */
    lua_pushcclosure(L, message_index, 1);
    lua_setfield(L, -2, "__index");
    set_function(L, "__newindex", message_newindex);
    set_function(L, "__tostring", message_tostring);
    lua_pushliteral(L, "message");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
