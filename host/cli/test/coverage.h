/* coverage - which lines of handlers, and of modules that they require, have run, and how often.
 *
 * Counts what Lua states of scripts do; the test kit's and tests' own states have no hook. What is
 * counted belongs to the script that is under test just then (coverage_of). One thread. */
#ifndef MOONBUS_CLI_TEST_COVERAGE_H
#define MOONBUS_CLI_TEST_COVERAGE_H

#include <lua.h>

/* From now on lines are counted, and nothing is compiled. */
void coverage_start(void);
void coverage_end(void);

/* Whose lines come next: the path of its file. Copied; the same text again costs nothing much. */
void coverage_of(const char *path);

/* Pushes a list of { script = path, chunk = name, lines = { [line] = count } }: the chunk's name as
 * messages have it. */
void coverage_push(lua_State *L);

#endif
