/* api_msg_stored - core.stored: what an entry of a bucket has of its message, in one call. A watch
 * sees many, and field by field each would cost eleven. */
#include "api/api.h"
#include "base/value.h"

static void push_header(lua_State *L, const struct message *message, const char *name)
{
    struct span value = {NULL, 0};
    if (message->headers.len > 0)
        value = header_block_find(&message->headers, name);
    if (value.at)
        lua_pushlstring(L, value.at, value.len);
    else
        lua_pushnil(L);
}

/* core.stored(message, binding): of a message of a stream its sequence, subject, data, timestamp
 * (s), how many are behind it, and the values of KV-Operation and of Nats-Marker-Reason (nil: it
 * has no such header); of another message nil. Raises misuse of `binding` when it is no message. */
static int core_stored(lua_State *L)
{
    const struct message *message = api_to_message(L, 1);
    if (!message)
        return api_misuse(L, "%s: it needs the message (got %s)", lua_tostring(L, 2),
                          api_type_name(L, 1));
    const struct delivery *delivery = message->delivery;
    if (message->kind != MESSAGE_STREAM && message->kind != MESSAGE_STORED) {
        lua_pushnil(L);
        return 1;
    }
    int64_t timestamp_ns = delivery ? delivery->timestamp_ns : message->timestamp_ns;
    lua_pushnumber(L, (double)(delivery ? delivery->stream_sequence : message->sequence));
    lua_pushstring(L, message->subject);
    lua_pushlstring(L, message->data, message->len);
    lua_pushnumber(L, (double)timestamp_ns / NS_PER_S);
    lua_pushnumber(L, (double)(delivery ? delivery->pending : message->pending));
    push_header(L, message, "KV-Operation");
    push_header(L, message, "Nats-Marker-Reason");
    return 7;
}

void api_msg_stored_open(lua_State *L)
{
    lua_pushcfunction(L, core_stored);
    lua_setfield(L, -2, "stored");
}
