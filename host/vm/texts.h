/* texts - what the files of a script held when its generation first read them.
 *
 * The instances of one generation are loaded at different times: when a script gets busy, or when a
 * state was discarded. They must be the same code, even if the files have changed meanwhile, or are
 * in the middle of an edit. A file that was not there is remembered, too: a module that appears in
 * a place where it was looked for is a change.
 *
 * Any thread; references. An entry stays as it is until the last of them has gone. */
#ifndef MOONBUS_VM_TEXTS_H
#define MOONBUS_VM_TEXTS_H

#include <lua.h>
#include <stddef.h>

struct texts;

struct texts *texts_new(void); /* NULL when out of memory */
struct texts *texts_retain(struct texts *texts);
void texts_release(struct texts *texts); /* NULL is allowed */

/* How many files have been looked for. */
int texts_count(struct texts *texts);

/* Visits each, in no order. text: NULL when there was none. Under the lock: visit must not come
 * back here. */
void texts_each(struct texts *texts,
                void (*visit)(void *owner, const char *path, const char *text, size_t len),
                void *owner);

/* Pushes a Lua function: read(path) -> text, or nil and why not. texts is not owned, and must
 * outlive the state; NULL: the file is read each time. */
void texts_push_reader(lua_State *L, struct texts *texts);

#endif
