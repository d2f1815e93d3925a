/* compiled - see compiled.h.
 *
 * A module's bytecode stands in pages of its own, written once and published by one pointer. Pages,
 * not malloc: what is counted of a run's allocations must not depend on who came first. */
#include "vm/compiled.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "vm/embedded.h"

#define MODULES_MOST 128
#define BYTES_PER_BYTE 3 /* bytecode with its lines is about as long as the text */

struct code {
    size_t len, room;
    char bytes[];
};

static _Atomic(struct code *) kept[MODULES_MOST];

static _Atomic(struct code *) *place_of(const struct embedded_module *module)
{
    size_t index = (size_t)(module - embedded_modules);
    return index < MODULES_MOST ? &kept[index] : NULL;
}

bool compiled_load(lua_State *L, const struct embedded_module *module)
{
    _Atomic(struct code *) *place = place_of(module);
    const struct code *code = place ? atomic_load_explicit(place, memory_order_acquire) : NULL;
    if (!code)
        return false;
    lua_pushfstring(L, "=%s", module->name);
    if (luaL_loadbufferx(L, code->bytes, code->len, lua_tostring(L, -1), "b"))
        lua_error(L);
    lua_remove(L, -2);
    return true;
}

/* A lua_Writer. */
static int add(lua_State *L, const void *bytes, size_t len, void *arg)
{
    struct code *code = arg;
    (void)L;
    if (len > code->room - code->len)
        return 1;
    memcpy(code->bytes + code->len, bytes, len);
    code->len += len;
    return 0;
}

void compiled_keep(lua_State *L, const struct embedded_module *module)
{
    _Atomic(struct code *) *place = place_of(module);
    size_t room = module->len * BYTES_PER_BYTE + 4096, size = sizeof(struct code) + room;
    struct code *none = NULL;
    if (!place)
        return;
    struct code *code =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return;
    code->len = 0;
    code->room = room;
    if (lua_dump(L, add, code) != 0 ||
        !atomic_compare_exchange_strong_explicit(place, &none, code, memory_order_acq_rel,
                                                 memory_order_relaxed))
        munmap(code, size);
}
