/* server - the real server as a Lua module, "moonbus.replay.server", for lua/moonbus/replay/: reads
 * what streams hold, and sends only what it is told to send.
 *
 *   server.say(text), note(text): on standard error, as the command speaks
 *   server.open() ─▶ server.info, read, last, letter, stream_of ─▶ publish, send, request
 *
 * It connects when it is opened, as `moonbus sub` does. Messages are tables: stream, subject,
 * sequence, time (as servers write it), seconds and stamp (the same since 1970; stamp: nanoseconds,
 * as a text), block (the headers, or nil), data. Whatever fails returns nil, a code and a sentence.
 * Headers that are sent are "name NUL value NUL" for each.
 *
 * For one Lua state, on the main thread, outside of any simulated world. */
#ifndef MOONBUS_CLI_REPLAY_SERVER_H
#define MOONBUS_CLI_REPLAY_SERVER_H

#include <lua.h>

#include "cli/jetstream.h"

struct replay_server {
    const struct cli *cli; /* borrowed */
    struct client client;
    struct jetstream js;
    enum log_format format; /* of what is said */
    bool opened;
};

/* As package.preload wants it; a struct replay_server (borrowed) is its upvalue. */
int replay_server_open(lua_State *L);
/* When the state is closed. */
void replay_server_close(struct replay_server *server);

#endif
