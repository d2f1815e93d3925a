/* internal - what the files of vm/ share. */
#ifndef MOONBUS_VM_INTERNAL_H
#define MOONBUS_VM_INTERNAL_H

#include "vm/vm.h"

/* Registry key: the host's own `require`. */
#define VM_REQUIRE "moonbus.require"

/* library.c. Protected: opens the standard libraries, lua-cjson, the host's modules. */
int vm_open_libraries(lua_State *L);

/* failure.c. Describes the value on top of L and pops it. at: the coroutine whose stack tells place
 * and traceback, or NULL; skip: how many of its innermost levels are the host's (when at is L). Not
 * while the limit holds. Never raises. */
void failure_fill(lua_State *L, lua_State *at, int skip, struct failure *failure);

/* Place and traceback of what runs on L; err is left alone. Never raises, but when the process is
 * out of memory. */
void failure_trace(lua_State *L, struct failure *failure);

#endif
