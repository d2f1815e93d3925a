/* api_msg - the message object: a userdata with a copy of what is small, or one that holds a
 * reference on its delivery, or owns the message of a reply. Fields are read from there when they
 * are asked for. Headers: api_msg_headers.c; verdicts and replies: api_verdict.c. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/value.h"
#include "bus/reap.h"
#include "engine/internal.h"

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
    if (message->kept)
        delivery_release(message->kept);
    else
        reap(message->msg);
}

/* Pushes a userdata that is not yet a message to Lua. */
static struct message *push_room(lua_State *L, enum message_kind kind, size_t copied)
{
    struct message *message = lua_newuserdata(L, sizeof *message + copied);
    memset(message, 0, sizeof *message);
    message->kind = kind;
    return message;
}

static void make_object(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance_of(L)->message_ref);
    lua_setmetatable(L, -2);
}

/* Pushes an object that keeps the message, or the delivery that has it: takes that reference. */
static struct message *push_keeper(lua_State *L, enum message_kind kind, natsMsg *msg,
                                   struct delivery *delivery)
{
    struct message *message = push_room(L, kind, 0);
    message->kept = message->delivery = delivery;
    message->msg = msg;
    message->subject = natsMsg_GetSubject(msg);
    message->data = natsMsg_GetData(msg);
    message->len = (size_t)natsMsg_GetDataLength(msg);
    message->external_bytes = message->len + 256;
    message->vm = vm_of(L);
    vm_own(L, &message->held, message->external_bytes, drop_message);
    make_object(L);
    return message;
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

static struct message *push_copy(lua_State *L, enum message_kind kind, struct delivery *delivery)
{
    size_t subject_len = strlen(delivery->subject);
    size_t reply_len = delivery->reply_to ? strlen(delivery->reply_to) : 0;
    struct message *message = push_room(L, kind, subject_len + reply_len + delivery->len + 3);
    char *at = message->text;
    message->delivery = delivery;
    message->subject = append(&at, delivery->subject, subject_len);
    if (delivery->reply_to)
        message->reply = append(&at, delivery->reply_to, reply_len);
    message->data = append(&at, delivery->data, delivery->len);
    message->len = delivery->len;
    make_object(L);
    return message;
}

/* A copy at one of the first places stays there until another object takes that place: most runs
 * are over soon, and then end without touching Lua. */
#define PLACES_LEFT 16

/* A free place of the table. Taking the last one that came free keeps the table small and warm. */
static int take_place(struct instance *instance)
{
    struct places *places = &instance->places;
    if (places->count > 0)
        return places->free[--places->count];
    if (places->made >= places->capacity) {
        int capacity = places->capacity ? 2 * places->capacity : PLACES_LEFT;
        int *larger = realloc(places->free, (size_t)capacity * sizeof *larger);
        if (larger) {
            places->free = larger;
            places->capacity = capacity;
        }
    }
    return ++places->made;
}

/* There is room, unless memory was short when it was made: then it is forgotten. */
static void give_place(struct instance *instance, int place)
{
    struct places *places = &instance->places;
    if (places->count < places->capacity)
        places->free[places->count++] = place;
}

/* The object on top is held in a table until its run is over, so that it can be told then. */
static void bind(lua_State *L, struct task *task, struct message *message)
{
    message->run = task;
    message->next = task->message;
    task->message = message;
    message->place = take_place(task->instance);
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->instance->running_ref);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, message->place);
    lua_pop(L, 1);
}

void api_push_message(lua_State *L, struct task *task, struct delivery *delivery)
{
    enum message_kind kind = delivery->consumer ? MESSAGE_STREAM : MESSAGE_CORE;
    struct message *message;
    if (!has_headers(delivery->msg) && !task->batch && delivery->len <= COPY_MAX) {
        message = push_copy(L, kind, delivery);
    } else {
        message = push_keeper(L, kind, delivery->msg, delivery_retain(delivery));
        message->reply = delivery->reply_to;
    }
    bind(L, task, message);
}

static void end_one(const struct task *task, struct message *message)
{
    struct instance *instance = task->instance;
    lua_State *L = instance->vm->L;
    const struct delivery *delivery = message->delivery;
    message->stream = task->registration->consumer.stream;
    message->durable = task->registration->consumer.durable;
    message->sequence = delivery->stream_sequence;
    message->attempt = delivery->attempt;
    message->pending = delivery->pending;
    message->timestamp_ns = delivery->timestamp_ns;
    message->delivery = NULL;
    message->run = NULL;
    message->next = NULL;
    give_place(instance, message->place);
    if (message->place <= PLACES_LEFT && !message->kept)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance->running_ref);
    lua_pushnil(L);
    lua_rawseti(L, -2, message->place);
    lua_pop(L, 1);
}

void api_end_messages(struct task *task)
{
    struct message *message = task->message, *next;
    for (; message; message = next) {
        next = message->next;
        end_one(task, message);
    }
}

void api_push_reply(lua_State *L, natsMsg *msg)
{
    push_keeper(L, MESSAGE_REPLY, msg, NULL)->reply = natsMsg_GetReply(msg);
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
        api_push_headers(L, message);
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
    api_msg_headers_open(L);
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
