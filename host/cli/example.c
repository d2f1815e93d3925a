/* example - a call of Lua, and quotes. */
#include "cli/example.h"

#include <string.h>

#include "api/api.h"
#include "base/text.h"
#include "vm/vm.h"

#define MEMORY_BYTES ((size_t)64 << 20)

/* Pushes the JSON, or nil. */
static int call(struct vm *vm, const char *schema, struct failure *failure)
{
    lua_getglobal(vm->L, "package");
    lua_getfield(vm->L, -1, "preload");
    lua_pushcfunction(vm->L, api_open_values);
    lua_setfield(vm->L, -2, "moonbus.core");
    lua_settop(vm->L, 0);
    int code = vm_module(vm, "moonbus.example", failure);
    if (code)
        return code;
    lua_getfield(vm->L, -1, "of");
    lua_pushstring(vm->L, schema);
    return vm_call(vm, 1, 1, failure);
}

/* 'it'\''s' */
static void put_quoted(struct text *out, const char *word)
{
    text_puts(out, "'");
    for (size_t len; *word; word += len) {
        len = strcspn(word, "'");
        text_add(out, word, len);
        if (word[len]) {
            text_puts(out, "'\\''");
            len++;
        }
    }
    text_puts(out, "'");
}

bool example_put(struct text *out, const char *schema)
{
    struct failure failure = {0};
    struct vm *vm = vm_new(MEMORY_BYTES, NULL, &failure.err);
    const char *json = NULL;
    if (!vm)
        return false;
    if (call(vm, schema, &failure) == 0)
        json = lua_tostring(vm->L, -1);
    if (json)
        put_quoted(out, json);
    failure_clear(&failure);
    vm_free(vm);
    return json;
}
