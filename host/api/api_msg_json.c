/* api_msg_json - msg:json(): the data of a message object as a Lua value. */
#include "api/api.h"

/* False: {strict = false} at 2. Raises. */
static bool is_strict(lua_State *L)
{
    if (lua_isnil(L, 2))
        return true;
    lua_getfield(L, 2, "strict");
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        api_misuse(L, "msg:json: strict must be true or false, got %s", api_type_name(L, -1));
    bool strict = lua_isnil(L, -1) || lua_toboolean(L, -1);
    lua_pop(L, 1);
    return strict;
}

static bool has_data(const struct message *message, struct err *err)
{
    unsigned long long left_out = wire_left_out(&message->headers, message->len);
    if (left_out > 0)
        err_set(err, ERR_BAD_PAYLOAD,
                "the message came without its data (Nats-Msg-Size: %llu): its consumer delivers "
                "headers only",
                left_out);
    return left_out == 0;
}

/* That somebody else's answer is no JSON says nothing of the message, which is not to go to the
 * dead letter for it: as of bus.http. */
static void blame_answer(struct err *err)
{
    struct err told = *err;
    err_set(err, ERR_PROTOCOL, "the answer: %.900s", told.message);
}

/* msg:json(): raises bad_payload, which sends the message straight to the dead letter; null is nil.
 * msg:json{strict = false}: nil and the error, so null is bus.json.null. Of an answer: protocol. */
static int method_json(lua_State *L)
{
    struct message *message = api_message(L, "json");
    lua_settop(L, 2);
    struct json_reading reading =
        api_json_reading(L, 2, "msg:json", "msg:json { big = \"string\" }", true);
    bool strict = is_strict(L);
    struct err err;
    if (has_data(message, &err) &&
        api_json_decode(L, message->data, message->len, &reading, &err) == 0) {
        if (strict && lua_islightuserdata(L, -1))
            lua_pushnil(L);
        return 1;
    }
    if (message->replied)
        blame_answer(&err);
    if (!strict)
        return api_fail(L, &err);
    if (message->delivery)
        handling_of(message->delivery)->unreadable = true;
    api_push_error(L, &err);
    return lua_error(L);
}

void api_msg_json_open(lua_State *L)
{
    lua_pushcfunction(L, method_json);
    lua_setfield(L, -2, "json");
}
