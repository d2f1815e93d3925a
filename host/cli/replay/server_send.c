/* What replayed handlers send, where it is to go out. */
#include <lauxlib.h>
#include <string.h>

#include "bus/link/nats_received.h"
#include "cli/replay/server_private.h"

/* Those at index: a whole block, or "". */
static int read_fields(lua_State *L, int index, struct headers *out, struct err *err)
{
    struct header_block block = {0};
    struct header_field field;
    size_t position = 0;
    int code = 0;
    block.at = luaL_checklstring(L, index, &block.len);
    while (code == 0 && header_block_next(&block, &position, &field))
        code = headers_add_received(out, field.name, field.value, err);
    return code;
}

static struct outgoing outgoing_of(lua_State *L, const struct headers *headers)
{
    struct outgoing out = {.subject = luaL_checkstring(L, 1), .headers = headers};
    out.data = luaL_checklstring(L, 3, &out.len);
    return out;
}

/* publish(subject, headers, data): stream, sequence, duplicate. */
int replay_server_publish(lua_State *L)
{
    struct err err = {0};
    struct headers headers = {0};
    struct receipt receipt = {0};
    unsigned tries;
    struct replay_server *server = replay_server_of(L);
    struct outgoing out = outgoing_of(L, &headers);
    int code = read_fields(L, 2, &headers, &err);
    if (code == 0)
        code = jetstream_publish(&server->js, &out, &receipt, &tries, &err);
    headers_clear(&headers);
    if (code)
        return replay_server_fail(L, &err);
    lua_pushstring(L, receipt.stream);
    lua_pushnumber(L, (double)receipt.sequence);
    lua_pushboolean(L, receipt.duplicate);
    return 3;
}

/* send(subject, headers, data [, reply]): in core NATS. */
int replay_server_send(lua_State *L)
{
    struct err err = {0};
    struct headers headers = {0};
    struct replay_server *server = replay_server_of(L);
    struct outgoing out = outgoing_of(L, &headers);
    out.reply = luaL_optstring(L, 4, NULL);
    int code = read_fields(L, 2, &headers, &err);
    natsStatus status = code ? NATS_ERR : client_publish(&server->client, &out);
    if (status == NATS_OK)
        status = natsConnection_Flush(server->client.nc);
    headers_clear(&headers);
    if (status != NATS_OK && !code)
        err_set(&err, ERR_DISCONNECTED, "%s", natsStatus_GetText(status));
    if (status != NATS_OK)
        return replay_server_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

static int push_reply(lua_State *L, natsMsg *reply)
{
    struct header_block block = nats_received_headers(reply);
    lua_pushlstring(L, natsMsg_GetData(reply), (size_t)natsMsg_GetDataLength(reply));
    if (block.len > 0)
        lua_pushlstring(L, block.at, block.len);
    else
        lua_pushnil(L);
    header_block_clear(&block);
    return 2;
}

/* Hosts in a simulated world ask JetStream where it is by itself; here it may be elsewhere. */
static const char *where_it_is(const struct replay_server *server, const char *subject, char *buf,
                               size_t size)
{
    static const char api[] = "$JS.API.";
    if (strncmp(subject, api, sizeof api - 1) != 0)
        return subject;
    jsapi_subject(server->js.jsapi, subject + sizeof api - 1, buf, size);
    return buf;
}

/* request(subject, headers, data): the reply's data and its block of headers, or nil. */
int replay_server_request(lua_State *L)
{
    struct err err = {0};
    struct headers headers = {0};
    natsMsg *reply = NULL;
    char subject[1024];
    struct replay_server *server = replay_server_of(L);
    struct outgoing out = outgoing_of(L, &headers);
    out.subject = where_it_is(server, out.subject, subject, sizeof subject);
    int code = read_fields(L, 2, &headers, &err);
    natsStatus status = code ? NATS_ERR
                             : client_request(&server->client, &out,
                                              server->client.config->request_timeout_ns, &reply);
    headers_clear(&headers);
    if (status != NATS_OK && !code)
        err_set(&err,
                status == NATS_NO_RESPONDERS ? ERR_NO_RESPONDERS
                : status == NATS_TIMEOUT     ? ERR_TIMEOUT
                                             : ERR_DISCONNECTED,
                "%s", natsStatus_GetText(status));
    if (status != NATS_OK)
        return replay_server_fail(L, &err);
    int results = push_reply(L, reply);
    natsMsg_Destroy(reply);
    return results;
}
