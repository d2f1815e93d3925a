/* stage - the simulated host as a Lua module, "moonbus.test.stage", for lua/moonbus/test/: a stage
 * is a world with a server and one host, whose one script is under test.
 *
 *   stage.new(seed) ─▶ s:load(path, name) ─▶ s:serve() ─▶ s:publish, s:step, s:take, s:sent
 *
 * s:load(path, name, settings) gives the script these settings, as JSON, in place of the config's.
 *
 * Whatever fails returns nil and a sentence. Data is strings. Times are milliseconds of the world.
 * For the states of `moonbus test`, on the main thread. */
#ifndef MOONBUS_CLI_TEST_STAGE_H
#define MOONBUS_CLI_TEST_STAGE_H

#include <lua.h>

struct sim_settings;

/* Pushes the module. settings: borrowed, for as long as the state lives. */
void stage_open(lua_State *L, struct sim_settings *settings);

#endif
