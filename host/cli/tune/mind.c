/* mind - JSON into the Lua state, and out of it. */
#include "cli/tune/mind.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "vm/vm.h"

#define MEMORY_BYTES (512u << 20) /* far more than all rounds of a test take */

struct mind {
    struct vm *vm; /* owned */
};

struct mind *mind_new(struct err *err)
{
    struct mind *mind = calloc(1, sizeof *mind);
    struct vm *vm = mind ? vm_new(MEMORY_BYTES, NULL, err) : NULL;
    if (!vm) {
        free(mind);
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    mind->vm = vm;
    return mind;
}

void mind_free(struct mind *mind)
{
    if (!mind)
        return;
    vm_free(mind->vm);
    free(mind);
}

static int call(struct vm *vm, const char *what, const char *json, struct failure *failure)
{
    int code = vm_module(vm, "moonbus.tune", failure);
    if (code)
        return code;
    lua_getfield(vm->L, -1, "call");
    lua_remove(vm->L, -2);
    lua_pushstring(vm->L, what);
    lua_pushstring(vm->L, json);
    return vm_call(vm, 2, 1, failure);
}

cJSON *mind_call(struct mind *mind, const char *what, cJSON *asked, struct err *err)
{
    lua_State *L = mind->vm->L;
    struct failure failure = {0};
    char *json = cJSON_PrintUnformatted(asked);
    cJSON *answer = NULL;
    cJSON_Delete(asked);
    if (!json) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    if (call(mind->vm, what, json, &failure) == 0)
        answer = cJSON_Parse(lua_tostring(L, -1));
    else
        *err = failure.err;
    failure_clear(&failure);
    lua_settop(L, 0);
    cJSON_free(json);
    return answer;
}
