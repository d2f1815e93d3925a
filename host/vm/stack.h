/* stack - how much of its thread's C stack Lua may still use.
 *
 * LuaJIT counts the slots of a coroutine's own stack, but not the C stack. That grows when a C
 * function calls Lua (string.gsub, table.sort), and when a coroutine resumes another one. Without
 * this unit, a recursion through these would overflow the stack and crash the process. So the stack
 * is checked where such a recursion passes: in each function of the host, in string.gsub with a
 * callback, in coroutine.resume, and in what coroutine.wrap returns.
 *
 * Any thread; it checks the calling thread's stack. */
#ifndef MOONBUS_VM_STACK_H
#define MOONBUS_VM_STACK_H

#include <lua.h>

/* What a function of the host may need, with all that it calls. */
#define STACK_FOR_HOST ((size_t)512 << 10)

/* What one coroutine can use between two checks: until its 65,500 slots were full, string.format
 * with a __tostring that calls it took 3.9 MB, table.sort 1.2 MB. */
#define STACK_FOR_LUA ((size_t)6 << 20)

/* Raises "stack overflow" when less than so many bytes are left. */
void stack_check(lua_State *L, size_t bytes);

/* A loader of package.preload: { check = function() ... end }, as stack_check of STACK_FOR_LUA. */
int stack_open(lua_State *L);

#endif
