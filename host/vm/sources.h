/* sources - what the files of a script held when its generation first read them.
 *
 * The instances of one generation are loaded at different times: when a script gets busy, or when a
 * state was given up. They must be the same code, whatever has become of the files meanwhile: they
 * may be in the middle of an edit. A file that was not there is remembered, too.
 *
 * Any thread. An entry stays as it is until sources_free. */
#ifndef MOONBUS_VM_SOURCES_H
#define MOONBUS_VM_SOURCES_H

#include <lua.h>

struct sources;

struct sources *sources_new(void); /* NULL when out of memory */
void sources_free(struct sources *sources);

/* Pushes a Lua function: read(path) -> text, or nil and why not. sources is not owned, and must
 * outlive the state; NULL: the file is read each time. */
void sources_push_reader(lua_State *L, struct sources *sources);

#endif
