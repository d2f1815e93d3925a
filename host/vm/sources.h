/* sources - what the files of a script held when its generation first read them.
 *
 * The instances of one generation are loaded at different times: when a script gets busy, or when a
 * state was given up. They must be the same code, whatever has become of the files meanwhile: they
 * may be in the middle of an edit. A file that was not there is remembered, too: of a module it is
 * known in which places it was looked for, and its appearance in one of them is a change.
 *
 * Any thread; references. An entry stays as it is until the last of them has gone. */
#ifndef MOONBUS_VM_SOURCES_H
#define MOONBUS_VM_SOURCES_H

#include <lua.h>
#include <stddef.h>

struct sources;

struct sources *sources_new(void); /* NULL when out of memory */
struct sources *sources_retain(struct sources *sources);
void sources_release(struct sources *sources); /* NULL is allowed */

/* How many files have been looked for. */
int sources_count(struct sources *sources);

/* Visits each, in no order. text: NULL when there was none. Under the lock: visit must not come
 * back here. */
void sources_each(struct sources *sources,
                  void (*visit)(void *owner, const char *path, const char *text, size_t len),
                  void *owner);

/* Pushes a Lua function: read(path) -> text, or nil and why not. sources is not owned, and must
 * outlive the state; NULL: the file is read each time. */
void sources_push_reader(lua_State *L, struct sources *sources);

#endif
