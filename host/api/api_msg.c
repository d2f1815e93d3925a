/* api_msg - the message object: a userdata with a copy of what is small, or one that holds a
 * reference on its delivery, or owns the message of a reply. Fields are read from there when they
 * are asked for. Headers: api_msg_headers.c; verdicts and replies: api_verdict.c. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/value.h"
#include "bus/letter.h"

/* What is read most is last: they are looked through from there. */
enum field {
    FIELD_NONE,
    FIELD_PENDING,
    FIELD_CONSUMER,
    FIELD_TIMESTAMP,
    FIELD_ID,
    FIELD_STREAM,
    FIELD_SEQUENCE,
    FIELD_REPLY,
    FIELD_ATTEMPT,
    FIELD_HEADERS,
    FIELD_SUBJECT,
    FIELD_DATA,
    FIELDS,
};

/* The largest message, with its headers, that is copied into its object. */
#define COPY_MAX 4096

/* --- The object --- */

static const char message_mark;

/* Its run does not know of it any more. */
static void leave_run(struct message *message)
{
    if (!message->run)
        return;
    *message->from = message->next;
    if (message->next)
        message->next->from = message->from;
}

static void drop_message(struct vm_held *held)
{
    struct message *message = (struct message *)held;
    leave_run(message);
    message->vm->external_bytes -= message->external_bytes;
    if (message->kept)
        delivery_release(message->kept);
    else if (message->replied)
        packet_clear(message->replied);
}

/* Pushes a userdata that is not yet a message to Lua. */
static struct message *push_room(lua_State *L, enum message_kind kind, size_t copied)
{
    struct message *message = lua_newuserdata(L, sizeof *message + copied);
    memset(message, 0, sizeof *message);
    message->mark = &message_mark;
    message->kind = kind;
    return message;
}

/* The same for the copy of a message that a run is given: only what is read before it is set. */
static struct message *push_copy_room(lua_State *L, enum message_kind kind, size_t copied)
{
    struct message *message = lua_newuserdata(L, sizeof *message + copied);
    message->held.next = NULL;
    message->mark = &message_mark;
    message->kind = kind;
    message->cached = message->decided = false;
    message->kept = NULL;
    message->replied = NULL;
    message->headers = (struct header_block){0};
    message->reply = NULL;
    message->external_bytes = 0;
    return message;
}

static void make_object(lua_State *L, const struct instance *instance)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance->message_ref);
    lua_setmetatable(L, -2);
}

/* From now on it is told when it is collected. */
static void own(lua_State *L, struct message *message)
{
    message->vm = vm_of(L);
    vm_own(L, &message->held, message->external_bytes, drop_message);
}

/* The userdata on top holds its message, or the delivery that has it, until it is collected. */
static void make_keeper(lua_State *L, struct message *message)
{
    message->external_bytes = message->len + message->headers.len + 256;
    own(L, message);
    make_object(L, instance_of(L));
}

/* What is to be read lies in a packet that lives as long as the object. */
static void read_packet(struct message *message, const struct packet *packet)
{
    message->subject = packet->subject;
    message->reply = packet->reply;
    message->data = packet->data;
    message->len = packet->len;
    message->headers = packet->headers;
    message->headers.owned = NULL;
}

static struct message *push_keeper(lua_State *L, enum message_kind kind, struct delivery *delivery)
{
    struct message *message = push_room(L, kind, 0);
    message->kept = message->delivery = delivery_retain(delivery);
    read_packet(message, &delivery->packet);
    message->reply = delivery->reply_to;
    make_keeper(L, message);
    return message;
}

static const char *append(char **at, const char *text, size_t len)
{
    char *copy = *at;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

static struct message *push_copy(lua_State *L, const struct instance *instance,
                                 enum message_kind kind, struct delivery *delivery)
{
    const struct packet *packet = &delivery->packet;
    const struct header_block *headers = &packet->headers;
    size_t subject_len = strlen(packet->subject);
    size_t reply_len = delivery->reply_to ? strlen(delivery->reply_to) : 0;
    struct message *message =
        push_copy_room(L, kind, subject_len + reply_len + packet->len + headers->len + 4);
    char *at = message->text;
    message->delivery = delivery;
    message->subject = append(&at, packet->subject, subject_len);
    if (delivery->reply_to)
        message->reply = append(&at, delivery->reply_to, reply_len);
    message->data = append(&at, packet->data, packet->len);
    message->len = packet->len;
    if (headers->at)
        message->headers.at = append(&at, headers->at, headers->len);
    message->headers.len = headers->len;
    make_object(L, instance);
    return message;
}

/* The run knows the object by its address. A copy is held by the stack of the run's coroutine,
 * later it tells when it is collected; whatever holds something else does so from the start. */
static void bind(struct task *task, struct message *message)
{
    message->run = task;
    message->next = task->messages;
    message->from = &task->messages;
    if (message->next)
        message->next->from = &message->next;
    task->messages = message;
}

void api_push_message(lua_State *L, struct task *task, struct delivery *delivery)
{
    enum message_kind kind = delivery->stream ? MESSAGE_STREAM : MESSAGE_CORE;
    bool is_small = delivery->packet.len + delivery->packet.headers.len <= COPY_MAX;
    bind(task, is_small && !task->batch ? push_copy(L, task->instance, kind, delivery)
                                        : push_keeper(L, kind, delivery));
}

void api_loosen_messages(struct task *task)
{
    for (struct message *message = task->messages; message; message = message->next) {
        if (!message->held.next)
            own(task->instance->vm->L, message);
    }
}

static void end_one(const struct registration *registration, struct message *message)
{
    const struct delivery *delivery = message->delivery;
    message->stream = registration->consumer.stream;
    message->durable = registration->consumer.durable;
    message->sequence = delivery->stream_sequence;
    message->attempt = delivery->attempt;
    message->pending = delivery->pending;
    message->timestamp_ns = delivery->timestamp_ns;
    message->delivery = NULL;
    message->run = NULL;
}

void api_end_messages(struct task *task)
{
    for (struct message *message = task->messages; message; message = message->next)
        end_one(task->registration, message);
    task->messages = NULL;
}

void api_push_reply(lua_State *L, struct packet *reply)
{
    struct message *message = push_room(L, MESSAGE_REPLY, sizeof *reply);
    _Static_assert(offsetof(struct message, text) % _Alignof(struct packet) == 0,
                   "a packet's place");
    message->replied = (struct packet *)message->text;
    *message->replied = packet_take(reply);
    packet_own(message->replied); /* a script may keep it for as long as it wants */
    read_packet(message, message->replied);
    make_keeper(L, message);
}

void api_push_stored(lua_State *L, const char *stream, const struct stored_message *stored)
{
    const struct header_block *headers = &stored->block;
    size_t subject_len = strlen(stored->subject), stream_len = strlen(stream);
    struct message *message =
        push_room(L, MESSAGE_STORED, subject_len + stream_len + stored->len + headers->len + 4);
    char *at = message->text;
    message->subject = append(&at, stored->subject, subject_len);
    message->stream = append(&at, stream, stream_len);
    message->data = append(&at, stored->data, stored->len);
    message->len = stored->len;
    if (headers->at)
        message->headers.at = append(&at, headers->at, headers->len);
    message->headers.len = headers->len;
    message->sequence = stored->sequence;
    message->timestamp_ns = stored->timestamp_ns;
    make_object(L, instance_of(L));
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

/* "<stream>:<timestamp>:<consumer>:<sequence>", "" when it is not from a stream. Returns buf. */
static char *message_id_of(const struct message *message, char *buf, size_t size)
{
    if (message->delivery)
        return delivery_id(message->delivery, buf, size);
    if (message->kind != MESSAGE_STREAM || !message->durable)
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
        lua_pushstring(L, message_id_of(message, id, sizeof id));
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

/* It has had no consumer, and so no attempt and no id. */
static void push_stored_field(lua_State *L, const struct message *message, enum field field)
{
    if (field == FIELD_STREAM || field == FIELD_SEQUENCE)
        push_stream_field(L, message, field);
    else if (field == FIELD_TIMESTAMP)
        push_delivery_field(L, message, field);
    else
        lua_pushnil(L);
}

/* The same of the first argument of __index, which LuaJIT calls with nothing but a message, and no
 * script has by itself. A trusted one may reach it by debug.getmetatable, and call it with
 * anything: so what it is given must have the size and the mark of one. */
static struct message *indexed_message(lua_State *L)
{
    struct message *message = lua_touserdata(L, 1);
    bool may_be = message && lua_objlen(L, 1) >= sizeof *message; /* a light one has no length */
    return may_be && message->mark == &message_mark ? message : NULL;
}

/* Equal strings are one string in a state, so the name of a field is known by its address. */
static enum field find_field(lua_State *L, int index)
{
    const char *const *names = lua_touserdata(L, lua_upvalueindex(2));
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
    int field = FIELDS - 1;
    while (field > FIELD_NONE && names[field] != name)
        field--;
    return (enum field)field;
}

/* Upvalues: {name = method, or true for a field}, whose metatable raises for another name (in
 * lua/moonbus/init.lua); the addresses of the names of fields, which that table holds. */
static int message_index(lua_State *L)
{
    struct message *message = indexed_message(L);
    if (!message)
        return 0;
    enum field field = find_field(L, 2);
    if (field == FIELD_NONE) {
        lua_settop(L, 2);
        lua_gettable(L, lua_upvalueindex(1));
        return 1;
    }
    if (push_common_field(L, message, field))
        return 1;
    if (message->kind == MESSAGE_STORED)
        push_stored_field(L, message, field);
    else if (message->kind != MESSAGE_REPLY)
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
    const struct delivery *delivery = message->delivery;
    char sequence[NUMBER_SHOWN];
    number_show((double)(delivery ? delivery->stream_sequence : message->sequence), sequence);
    if (message->kind == MESSAGE_STREAM || message->kind == MESSAGE_STORED)
        lua_pushfstring(L, "message \"%s\" (%s #%s)", message->subject,
                        delivery ? delivery->stream : message->stream, sequence);
    else
        lua_pushfstring(L, "%s \"%s\"", message->kind == MESSAGE_CORE ? "message" : "reply",
                        message->subject);
    return 1;
}

/* --- Opening --- */

/* Pushes what find_field looks at, and the table of members. */
static void push_members(lua_State *L)
{
    static const char *const fields[FIELDS] = {
        [FIELD_SUBJECT] = "subject",     [FIELD_DATA] = "data",
        [FIELD_HEADERS] = "headers",     [FIELD_REPLY] = "reply",
        [FIELD_STREAM] = "stream",       [FIELD_CONSUMER] = "consumer",
        [FIELD_SEQUENCE] = "sequence",   [FIELD_ATTEMPT] = "attempt",
        [FIELD_PENDING] = "pending",     [FIELD_ID] = "id",
        [FIELD_TIMESTAMP] = "timestamp",
    };
    lua_newtable(L);
    const char **names = lua_newuserdata(L, FIELDS * sizeof *names);
    names[FIELD_NONE] = NULL;
    for (int i = FIELD_NONE + 1; i < FIELDS; i++) {
        lua_pushstring(L, fields[i]);
        names[i] = lua_tostring(L, -1);
        lua_pushboolean(L, true);
        lua_rawset(L, -4);
    }
    lua_insert(L, -2);
    api_msg_json_open(L);
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
    api_msg_stored_open(L);
    struct instance *instance = instance_of(L);

    lua_newtable(L);
    lua_pushvalue(L, -1);
    instance->message_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    push_members(L); /* names, members */
    lua_pushvalue(L, -1);
    lua_setfield(L, -5, "methods"); /* core.methods: the Lua side wraps those that wait */
    lua_insert(L, -2);
    lua_pushcclosure(L, message_index, 2);
    lua_setfield(L, -2, "__index");
    set_function(L, "__newindex", message_newindex);
    set_function(L, "__tostring", message_tostring);
    lua_pushliteral(L, "message");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
