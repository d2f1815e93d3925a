/* alike - a number for a Lua function that is the same in every state that has loaded the same
 * code.
 *
 * It is made of where the function was written, and of its upvalues, as far as those can be
 * compared between states (texts, numbers, booleans, functions, small tables of these). An upvalue
 * that differs from state to state, such as a time, makes two numbers of one function. So it tells
 * apart functions that are registered under one name, and proves nothing.
 *
 * Pure: runs no Lua code, and raises nothing. */
#ifndef MOONBUS_VM_ALIKE_H
#define MOONBUS_VM_ALIKE_H

#include <lua.h>
#include <stdint.h>

/* The caller makes room on the stack: 3 values for each of ALIKE_DEPTH levels. */
#define ALIKE_DEPTH 4
#define ALIKE_STACK (3 * ALIKE_DEPTH)

uint64_t alike_function(lua_State *L, int index);

#endif
