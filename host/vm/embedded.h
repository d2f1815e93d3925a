/* embedded - the Lua modules of the tree's lua/ folder, inside the binary.
 *
 * lua/moonbus/init.lua (or lua/moonbus.lua) is "moonbus", lua/moonbus/jetstream.lua is
 * "moonbus.jetstream". Written at build time by embed.cmake; constant, any thread. */
#ifndef MOONBUS_VM_EMBEDDED_H
#define MOONBUS_VM_EMBEDDED_H

#include <stddef.h>

struct embedded_module {
    const char *name;   /* as `require` takes it */
    const char *source; /* len bytes and a NUL */
    size_t len;
};

/* Sorted by file name. A last entry, not counted, has no name. */
extern const struct embedded_module embedded_modules[];
extern const size_t embedded_module_count;

#endif
