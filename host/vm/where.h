/* where - the place in a script at which Lua is. Pushes nothing; the thread that runs the state. */
#ifndef MOONBUS_VM_WHERE_H
#define MOONBUS_VM_WHERE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* "orders.lua", 14: the innermost function of a script that is running on L. file is NUL-ended in
 * buf; false when there is none. */
bool where_find(lua_State *L, char *buf, size_t size, int *line);

/* Is that level of L a place in a script? Fills debug. *end: there are no more levels. */
bool where_level(lua_State *L, int level, lua_Debug *debug, bool *end);
/* The file of such a level, or the beginning of its text. */
const char *where_source(const lua_Debug *debug);

#endif
