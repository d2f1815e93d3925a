/* compiled - embedded modules as bytecode: the first Lua state of the process that wants one reads
 * its text, all later ones load what that became. A state is made in a third of the time, and a
 * process has many: one for each instance, each load, each check of the config.
 *
 * It is made at run time, not with the binary: bytecode fits the very LuaJIT that wrote it, and
 * that is a library of the system. Never freed. Any thread; no locks. */
#ifndef MOONBUS_VM_COMPILED_H
#define MOONBUS_VM_COMPILED_H

#include <lua.h>
#include <stdbool.h>

struct embedded_module;

/* Pushes the module's chunk; false: nobody has compiled it yet. Raises when memory is out. */
bool compiled_load(lua_State *L, const struct embedded_module *module);

/* The chunk on top of the stack, which stays there, is kept for the others; or not, without memory.
 */
void compiled_keep(lua_State *L, const struct embedded_module *module);

#endif
