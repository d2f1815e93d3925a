/* files - what the test kit looks at in the file system, as a Lua module, "moonbus.test.files".
 *
 * list(folder): the names in it, unsorted, without hidden ones; folders end in "/"; nil: it is
 * none. real(path): where it really is, or nil. read(path): the text of a regular file; nil and why
 * not: never waits, never reads a device. handlers(path): the paths of the handler files that
 * `moonbus run PATH` finds; nil and why not.
 *
 * Any Lua state. */
#ifndef MOONBUS_CLI_TEST_FILES_H
#define MOONBUS_CLI_TEST_FILES_H

#include <lua.h>

int files_open(lua_State *L);

#endif
