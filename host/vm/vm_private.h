/* vm_private - what the files of vm/ share. */
#ifndef MOONBUS_VM_VM_PRIVATE_H
#define MOONBUS_VM_VM_PRIVATE_H

#include "vm/vm.h"

/* Registry key: the host's own `require`. */
#define VM_REQUIRE "moonbus.require"

/* blocks.c: the memory of a state. */

void blocks_init(struct vm *vm);
const void *blocks_newest(const struct vm *vm);
/* As of a lua_Alloc without a limit. NULL: no memory, or it was freed. */
void *blocks_move(struct vm *vm, void *memory, size_t old_size, size_t new_size);
/* `held` is in a userdata of vm_own: it is dropped with its block. */
void blocks_own(struct vm *vm, struct vm_held *held);
/* All of them, whatever is in them. */
void blocks_free(struct vm *vm);

/* library.c. Protected: opens the standard libraries, lua-cjson, the host's modules. */
int vm_open_libraries(lua_State *L);

/* show.c. A loader of package.preload: a function that gives a table as a text for the log, tables
 * in it shown as well, {1, 2, {id = 7}}; cut at some 4,000 bytes. */
int show_open(lua_State *L);

/* view.c. A loader of package.preload: a function (metatable, table) that makes it one of a view of
 * that table, for vm_see_through. */
int view_open(lua_State *L);

/* failure.c. Describes the value on top of L and pops it. at: the coroutine whose stack tells place
 * and traceback, or NULL; skip: how many of its innermost levels are the host's (when at is L). Not
 * while the limit holds. Never raises. */
void failure_fill(lua_State *L, lua_State *at, int skip, struct failure *failure);

/* Place and traceback of what runs on L; err is left alone. Never raises, but when the process is
 * out of memory. */
void failure_trace(lua_State *L, struct failure *failure);

/* frames.c. Pushes onto L the traceback of `at` (which may be L) from that level on, as
 * luaL_traceback does, with the values of locals. May raise when there is no memory. */
void frames_push(lua_State *L, lua_State *at, int level);

/* show.c. A value of any kind as a short text, for one line. */
struct text;
void vm_show_value(lua_State *L, int index, struct text *out);

#endif
