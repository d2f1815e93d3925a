/* machine_code - what LuaJIT has compiled in a state that is discarded, not closed.
 *
 * This is the only memory of a state that does not come from the state's allocator. LuaJIT maps
 * areas of 64 KB for it, in a list that begins somewhere in the state's own block. Only lua_close
 * unmaps them, and a broken state must not be closed. A process may have 65,530 mappings
 * (vm.max_map_count), and each discarded state would keep one or more.
 *
 * So the list is searched for: five words of the block that LuaJIT keeps in a row (the newest area,
 * what is free of it, its size, the size of all areas). They have to match each other, the heads of
 * the areas (the next one, and the size), and the executable mappings of the process that belong to
 * no file. If anything does not match, nothing is unmapped: the memory beside an area may belong to
 * another state. */
#ifndef MOONBUS_VM_MACHINE_CODE_H
#define MOONBUS_VM_MACHINE_CODE_H

#include <stdbool.h>
#include <stddef.h>

/* Unmaps the areas of the state whose own block this is. Nothing of the state may run, now or
 * later. Any thread. If this LuaJIT keeps its areas in another way (found out once, with a state of
 * our own), or /proc cannot be read, they stay mapped, and are counted. */
void machine_code_free(const void *block, size_t size);

/* How many states were discarded whose machine code stays mapped. */
unsigned machine_code_left(void);

/* So many of them that the process should end in order, before it can map nothing any more. */
unsigned machine_code_most(void);

#endif
