/* replay - what moonbus replay and moonbus shadow share: the settings, the Lua state with a real
 * server to read from, and the way of what was asked for into it.
 *
 * The main thread. */
#ifndef MOONBUS_CLI_REPLAY_REPLAY_H
#define MOONBUS_CLI_REPLAY_REPLAY_H

#include <lua.h>

#include "cli/cli.h"

struct replay_command {
    const struct cli *cli;
    const char *module; /* the Lua module that does it: a function */
    void (*put)(lua_State *L, const struct replay_command *command); /* its own fields */
    double sequence, attempt, count, since; /* 0: not stated; since: seconds */
    const struct config *config;            /* filled in here, borrowed */
};

/* Runs the module with a table: handlers (what `moonbus run` would load), json, connects (a server
 * is stated), inbox, secrets, and what put adds. The exit status. */
int replay_run(struct replay_command *command);

/* Adds a string, where there is one, to the table on top. */
void replay_put(lua_State *L, const char *key, const char *value);

/* The same of a list of strings. */
void replay_put_list(lua_State *L, const char *key, char *const *list, int count);

#endif
