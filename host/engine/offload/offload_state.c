/* offload_state - the Lua state of an offload thread: what its Lua side (moonbus.offload_thread)
 * asks of the host, and one run. */
#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/value.h"
#include "engine/offload/offload_private.h"
#include "vm/texts.h"

/* A file that changed so lately may change again within the same tick of its file system's clock.
 */
#define SETTLED_NS (2 * NS_PER_S)

/* What its Lua asks of the host ---------------------------------------------------------------- */

static struct offload_thread *thread_of(lua_State *L)
{
    return vm_of(L)->owner;
}

/* core.target(): what is to be called: {script, path, module, name, lib}. */
static int core_target(lua_State *L)
{
    const struct offload_call *call = thread_of(L)->call;
    const struct policy *policy = call->policy;
    const struct {
        const char *name, *value;
    } texts[] = {{"script", call->script},
                 {"path", call->path},
                 {"module", call->module},
                 {"name", call->function}};
    lua_createtable(L, 0, 5);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        lua_pushstring(L, texts[i].value);
        lua_setfield(L, -2, texts[i].name);
    }
    lua_createtable(L, policy->lib_count, 0);
    for (int i = 0; i < policy->lib_count; i++) {
        lua_pushstring(L, policy->lib[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "lib");
    return 1;
}

/* core.arguments(): of the call. */
static int core_arguments(lua_State *L)
{
    struct offload_call *call = thread_of(L)->call;
    int count = plain_push(L, call->arguments);
    plain_release(call->arguments);
    call->arguments = NULL;
    return count;
}

/* core.keep(...): the results. Raises for what is not plain. */
static int core_keep(lua_State *L)
{
    struct offload_call *call = thread_of(L)->call;
    struct err err;
    const struct plain_rules rules = offload_rules(call->policy, "result");
    struct plain *results = plain_copy(L, 1, lua_gettop(L), &rules, &err);
    if (results) {
        call->results = results;
        return 0;
    }
    lua_createtable(L, 0, 2);
    lua_pushstring(L, err_name(err.code));
    lua_setfield(L, -2, "code");
    lua_pushfstring(L, "%s.%s: %s", call->module, call->function, err.message);
    lua_setfield(L, -2, "message");
    return lua_error(L);
}

/* core.stamp(path): a text that changes with the file, and whether its last change is some time
 * ago; or nothing. */
static int core_stamp(lua_State *L)
{
    struct stat info;
    char stamp[160];
    if (stat(luaL_checkstring(L, 1), &info))
        return 0;
    int64_t changed_ns = (int64_t)info.st_ctim.tv_sec * NS_PER_S + info.st_ctim.tv_nsec;
    snprintf(stamp, sizeof stamp, "%" PRIu64 ":%" PRIu64 ":%" PRId64 ":%" PRId64 ".%ld",
             (uint64_t)info.st_dev, (uint64_t)info.st_ino, (int64_t)info.st_size, changed_ns,
             info.st_mtim.tv_nsec);
    lua_pushstring(L, stamp);
    lua_pushboolean(L, changed_ns + SETTLED_NS < clock_wall_ns());
    return 2;
}

/* core.hash(text) */
static int core_hash(lua_State *L)
{
    char hash[20];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    snprintf(hash, sizeof hash, "%016" PRIx64, hash_add(HASH_START, text, len));
    lua_pushstring(L, hash);
    return 1;
}

/* core.keep_version(key, id, files): what a module was made of that has loaded. */
static int core_keep_version(lua_State *L)
{
    struct offload_thread *thread = thread_of(L);
    struct err err;
    size_t len;
    const char *key = luaL_checklstring(L, 1, &len), *id = luaL_checkstring(L, 2);
    if (offload_is_version(thread->offload, key, len, id)) {
        offload_complain(thread->offload, key, len, NULL);
        return 0;
    }
    const struct plain_rules rules = offload_rules(thread->call->policy, NULL);
    struct plain *files = plain_copy(L, 3, 1, &rules, &err);
    if (files) /* too large: every thread is on its own */
        offload_keep_version(thread->offload, key, len, id, files);
    return 0;
}

/* core.is_version(key [, id]): is one kept? */
static int core_is_version(lua_State *L)
{
    size_t len;
    const char *key = luaL_checklstring(L, 1, &len), *id = luaL_optstring(L, 2, NULL);
    lua_pushboolean(L, offload_is_version(thread_of(L)->offload, key, len, id));
    return 1;
}

/* core.version(key): its files; or nothing. */
static int core_version(lua_State *L)
{
    struct offload_thread *thread = thread_of(L);
    size_t len;
    const char *key = luaL_checklstring(L, 1, &len);
    plain_release(thread->lent); /* of one that could not be given */
    thread->lent = offload_version(thread->offload, key, len);
    if (!thread->lent)
        return 0;
    int count = plain_push(L, thread->lent);
    plain_release(thread->lent);
    thread->lent = NULL;
    return count;
}

/* core.is_news(key, text): has it not been told yet that the newest does not load? */
static int core_is_news(lua_State *L)
{
    size_t len;
    const char *key = luaL_checklstring(L, 1, &len), *text = luaL_checkstring(L, 2);
    lua_pushboolean(L, offload_complain(thread_of(L)->offload, key, len, text));
    return 1;
}

/* core.log(level, text, traceback): level "info" or "error". */
static int core_log(lua_State *L)
{
    const struct offload_call *call = thread_of(L)->call;
    enum log_level level = LOG_INFO;
    log_parse_level(luaL_checkstring(L, 1), &level);
    bool traced = call && *call->trace_id;
    const struct log_context context = {.script = call ? call->script : NULL,
                                        .trace_id = traced ? call->trace_id : NULL,
                                        .span_id = traced ? call->span_id : NULL,
                                        .traceback = luaL_optstring(L, 3, NULL)};
    log_event(level, &context, "%s", luaL_checkstring(L, 2));
    return 0;
}

/* Protected: leaves what runs a call. */
static int open_core(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"target", core_target},
        {"arguments", core_arguments},
        {"keep", core_keep},
        {"stamp", core_stamp},
        {"hash", core_hash},
        {"keep_version", core_keep_version},
        {"is_version", core_is_version},
        {"version", core_version},
        {"is_news", core_is_news},
        {"log", core_log},
        {NULL, NULL},
    };
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    texts_push_reader(L, NULL);
    lua_setfield(L, -2, "read");
    lua_setfield(L, -2, "moonbus.offload_core");
    return 0;
}

/* The state -------------------------------------------------------------------------------------
 */

static struct vm *open_state(struct offload_thread *thread, struct failure *failure)
{
    struct vm *vm = vm_new(0, thread, &failure->err);
    if (!vm)
        return NULL;
    lua_pushcfunction(vm->L, open_core);
    int code = vm_call(vm, 0, 0, failure);
    if (!code)
        code = vm_module(vm, "moonbus.offload_thread", failure);
    if (code) {
        vm_free(vm);
        return NULL;
    }
    thread->run_ref = luaL_ref(vm->L, LUA_REGISTRYINDEX);
    return vm;
}

/* The run, and nothing else, is watched: what is asked to end is Lua of the module's. */
static enum vm_end resume(struct offload_thread *thread, struct coroutine coroutine)
{
    struct watchdog *watchdog = thread->offload->watchdog;
    struct offload_call *call = thread->call;
    lua_rawgeti(coroutine.L, LUA_REGISTRYINDEX, thread->run_ref);
    watchdog_add(watchdog, &thread->watched, offload_thread_lost);
    enum vm_end end = vm_resume(thread->vm, coroutine, 0, &call->failure);
    watchdog_remove(watchdog, &thread->watched);
    return end;
}

/* Errors that moonbus has no word for are the module's own. */
static void name_failure(struct offload_call *call)
{
    if (call->failure.err.code == ERR_HANDLER)
        call->failure.err.code = ERR_OFFLOAD;
    if (call->failure.err.code == ERR_CPU)
        err_set(&call->failure.err, ERR_TIMEOUT, "%s.%s ran for too long", call->module,
                call->function);
}

void offload_run(struct offload_thread *thread)
{
    struct offload_call *call = thread->call;
    struct coroutine coroutine;
    if (!thread->vm && !(thread->vm = open_state(thread, &call->failure)))
        return;
    if (!offload_wanted(call)) /* from here on offload_interrupt has it stopped */
        return;
    struct vm *vm = thread->vm;
    vm_set_limit(vm, call->policy->memory_bytes);
    if (vm_checkout(vm, &coroutine, &call->failure.err) != 0) {
        vm_free(vm);
        thread->vm = NULL;
        return;
    }
    enum vm_end end = resume(thread, coroutine);
    switch (end) {
    case VM_BROKEN:
        vm_discard(vm);
        thread->vm = NULL;
        break;
    case VM_YIELDED: /* nothing here suspends */
        err_set(&call->failure.err, ERR_OFFLOAD, "it suspended itself");
        break;
    case VM_RETURNED:
    case VM_FAILED:
        break;
    }
    name_failure(call);
    if (!thread->vm)
        return;
    /* A full collection here would run finalizers of the FFI outside of any protection. A new state
     * costs less than a millisecond. */
    if (vm->refused) {
        vm_free(vm);
        thread->vm = NULL;
    } else {
        vm_checkin(vm, coroutine, end == VM_RETURNED);
    }
}
