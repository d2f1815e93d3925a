/* plain - values outside of any Lua state, on their way from one to another: nil, booleans,
 * numbers, strings, tables of them, bus.json.null. A copy in, a copy out: nothing is shared with a
 * state.
 *
 *   state A ── plain_copy ─▶ struct plain (one block, immutable) ── plain_push ─▶ state B
 *
 * Tables are read without metamethods, and their metatables stay behind, but for the mark of
 * bus.json.array. What a table holds twice is copied twice. Everything else (functions, userdata,
 * coroutines, int64 of the FFI, a table that contains itself) is refused, with its path.
 *
 * Copying touches no Lua but the stack, and raises only before it holds anything. A struct plain
 * belongs to whoever holds a reference; any thread may. */
#ifndef MOONBUS_VM_PLAIN_H
#define MOONBUS_VM_PLAIN_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PLAIN_DEPTH_MAX 128

/* Registry key of the metatable that marks a table as an array of JSON. */
#define PLAIN_ARRAY_METATABLE "moonbus.json.array"

struct plain;

/* How a refusal is worded, and how much a copy may take. */
struct plain_rules {
    const char *verb;   /* "a function cannot be <verb>" */
    const char *each;   /* "argument": a path begins with its number; NULL: there is one value */
    size_t limit_bytes; /* of the copy */
};

/* Copies count values of the stack, from index first on. NULL with err: ERR_INVALID (a value that
 * is not plain: "items[2].fn: a function cannot be stored ..."), ERR_TOO_LARGE, ERR_MEMORY. Raises
 * when the stack cannot grow. */
struct plain *plain_copy(lua_State *L, int first, int count, const struct plain_rules *rules,
                         struct err *err);

/* Pushes copies of its values; returns how many. May raise, so the caller's reference must hang on
 * something that is collected, or on the caller's caller. */
int plain_push(lua_State *L, const struct plain *plain);

/* What it takes of memory. */
size_t plain_bytes(const struct plain *plain);

struct plain *plain_retain(struct plain *plain);
void plain_release(struct plain *plain); /* NULL is allowed */

#endif
