/* server_private - what the files of server share. */
#ifndef MOONBUS_CLI_REPLAY_SERVER_PRIVATE_H
#define MOONBUS_CLI_REPLAY_SERVER_PRIVATE_H

#include "cli/replay/server.h"

/* server.c: the server of the function that runs; raises when it was not opened. */
struct replay_server *replay_server_of(lua_State *L);
/* nil, the code and the sentence: what the function returns. */
int replay_server_fail(lua_State *L, const struct err *err);

/* server_send.c: functions of the module. */
int replay_server_publish(lua_State *L);
int replay_server_send(lua_State *L);
int replay_server_request(lua_State *L);

#endif
