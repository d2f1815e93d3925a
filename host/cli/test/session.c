/* session - see session.h. */
#include "cli/test/session.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "base/value.h"
#include "cli/test/coverage.h"
#include "cli/test/files.h"
#include "cli/test/stage.h"
#include "sim/sim.h"
#include "vm/guard.h"
#include "vm/vm.h"

#define BOOT "moonbus.test.boot"
#define MEMORY_MOST ((size_t)1 << 30)
#define WALL_TIMES 12             /* what blocks uses no CPU: it may take so many times the limit */
#define WORKS_NS (10 * NS_PER_MS) /* of the CPU in a second: who uses that much does not block */
#define TYPES 8

/* The metatables of one side: of values that are no tables, by their type. */
struct faces {
    int refs[TYPES]; /* in the registry; LUA_NOREF: none */
};

struct session {
    struct vm *vm;                  /* owned */
    lua_State *control;             /* the runner's, which waits; not owned */
    int tell;                       /* where its function is on that stack */
    jmp_buf out;                    /* back to session_run: the state is broken */
    struct faces own, theirs, left; /* left: of a test that failed, meanwhile */
};

/* One thread runs tests, and one file at a time; the handlers of signals find them here. */
static struct guard guard;
static struct session_settings settings;
static char running[512]; /* what runs, for the message of the process's last breath */

/* --- what cannot be ended --- */

/* By a handler of signals. */
static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(1);
}

/* What is written then in place of results; owned. */
static struct {
    char *path; /* NULL: nothing is */
    char *before, *after;
} last_words;

static void forget_last_words(void)
{
    free(last_words.path);
    free(last_words.before);
    free(last_words.after);
    last_words.path = last_words.before = last_words.after = NULL;
}

/* last_words(path, before, after): a file to write where a test ends the process, with the reason
 * between the two. */
static int session_last_words(lua_State *L)
{
    forget_last_words();
    last_words.before = strdup(luaL_checkstring(L, 2));
    last_words.after = strdup(luaL_checkstring(L, 3));
    if (last_words.before && last_words.after)
        last_words.path = strdup(luaL_checkstring(L, 1));
    return 0;
}

/* By a handler of signals. */
static bool write_all(int fd, const char *text)
{
    for (size_t len = strlen(text); len > 0;) {
        ssize_t wrote = write(fd, text, len);
        if (wrote <= 0)
            return false;
        text += wrote;
        len -= (size_t)wrote;
    }
    return true;
}

/* By a handler of signals. */
static void leave_last_words(const char *why)
{
    if (!last_words.path)
        return;
    int fd = open(last_words.path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || !write_all(fd, last_words.before) || !write_all(fd, why) ||
        !write_all(fd, last_words.after))
        say("moonbus test: --junit: the results cannot be written\n");
}

static void say_and_end(const char *what)
{
    leave_last_words(what + strlen(": "));
    say("moonbus test: ");
    say(running);
    say(what);
    say(" (--timeout); the run ends here\n");
    _exit(1);
}

static void on_lost(void)
{
    say_and_end(": it computes in a function written in C that never comes back");
}

/* What the process had used of the CPU when the alarm was set. */
static volatile int64_t cpu_then_ns;

static int64_t cpu_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* On a busy machine also what computes may not have come to its limit by now. */
static void on_alarm(int number)
{
    (void)number;
    int64_t now_ns = cpu_now_ns();
    if (now_ns - cpu_then_ns >= WORKS_NS) {
        cpu_then_ns = now_ns;
        alarm(1);
        return;
    }
    say_and_end(": it blocks, as by io.read or os.execute");
}

void session_watch(const struct session_settings *given)
{
    settings = *given;
    guard_install();
    guard_attach(&guard);
    sim_watch_cpu(&guard, on_lost);
    signal(SIGALRM, on_alarm);
}

void session_end_watch(void)
{
    sim_watch_cpu(NULL, NULL);
    guard_detach(&guard);
    forget_last_words();
}

static bool watching; /* is there an alarm? */

static void set_alarm(bool on)
{
    int64_t seconds = settings.limit_ns / NS_PER_MS * WALL_TIMES / 1000 + 1;
    cpu_then_ns = cpu_now_ns();
    watching = on && settings.limit_ns > 0;
    alarm(!watching ? 0 : (unsigned)(seconds < INT32_MAX ? seconds : INT32_MAX));
}

void session_waits(void)
{
    if (watching)
        set_alarm(true);
}

/* --- metatables of values that are no tables --- */

/* Pushes one of them; false: of this type there is none to be had here. */
static bool push_sample(lua_State *L, int type)
{
    switch (type) {
    case LUA_TNIL:
        lua_pushnil(L);
        return true;
    case LUA_TBOOLEAN:
        lua_pushboolean(L, 1);
        return true;
    case LUA_TNUMBER:
        lua_pushnumber(L, 1);
        return true;
    case LUA_TSTRING:
        lua_pushliteral(L, "");
        return true;
    case LUA_TFUNCTION:
        lua_getfield(L, LUA_REGISTRYINDEX, BOOT);
        return true;
    default:
        return false; /* light userdata, threads: the kit uses none */
    }
}

static void keep_faces(lua_State *L, struct faces *faces)
{
    for (int type = 0; type < TYPES; type++) {
        luaL_unref(L, LUA_REGISTRYINDEX, faces->refs[type]);
        faces->refs[type] = LUA_NOREF;
        if (!push_sample(L, type))
            continue;
        if (lua_getmetatable(L, -1))
            faces->refs[type] = luaL_ref(L, LUA_REGISTRYINDEX);
        lua_pop(L, 1);
    }
}

static void put_faces(lua_State *L, const struct faces *faces)
{
    for (int type = 0; type < TYPES; type++) {
        if (!push_sample(L, type))
            continue;
        if (faces->refs[type] != LUA_NOREF)
            lua_rawgeti(L, LUA_REGISTRYINDEX, faces->refs[type]);
        else
            lua_pushnil(L);
        lua_setmetatable(L, -2);
        lua_pop(L, 1);
    }
}

/* own_string(metatable): the kit's own one of strings; the one that is there is the tests'. */
static int session_own_string(lua_State *L)
{
    struct session *session = vm_of(L)->owner;
    luaL_checktype(L, 1, LUA_TTABLE);
    keep_faces(L, &session->theirs);
    keep_faces(L, &session->own);
    luaL_unref(L, LUA_REGISTRYINDEX, session->own.refs[LUA_TSTRING]);
    session->own.refs[LUA_TSTRING] = luaL_ref(L, LUA_REGISTRYINDEX);
    put_faces(L, &session->own);
    return 0;
}

/* --- a call of what a test file has --- */

static void push_reason(struct vm *vm, lua_State *L, int status, const struct failure *failure)
{
    char limit[32];
    value_format_duration(settings.limit_ns, limit, sizeof limit);
    if (failure->err.code == ERR_CPU)
        lua_pushfstring(L, "it computed for more than %s (--timeout)", limit);
    else if (failure->err.code == ERR_MEMORY || status == LUA_ERRMEM || vm->exhausted)
        lua_pushfstring(L, "the tests of this file use more than %d MB of memory",
                        (int)(MEMORY_MOST >> 20));
    else
        lua_pushliteral(L, "it failed once more while its failure was described");
}

static void push_stopped(struct vm *vm, lua_State *L, int status, struct failure *failure)
{
    push_reason(vm, L, status, failure);
    if (failure->file)
        lua_pushfstring(L, "%s:%d: %s", failure->file, failure->line, lua_tostring(L, -1));
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    if (failure->traceback) {
        lua_pushstring(L, failure->traceback);
        lua_setfield(L, -2, "traceback");
    }
    failure_clear(failure);
}

/* Pushes where methods of strings are looked for; nil: nowhere. */
static void push_methods(lua_State *L)
{
    lua_pushliteral(L, "");
    if (!lua_getmetatable(L, -1)) {
        lua_pushnil(L);
    } else {
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
}

/* Of a test nothing of that stays; what a file's top level or a hook has set does. Pops what
 * push_methods had pushed. */
static void change_faces_back(lua_State *L, struct session *session, bool stays)
{
    if (stays)
        keep_faces(L, &session->theirs);
    else
        put_faces(L, &session->theirs);
    lua_pushliteral(L, "");
    if (!stays && lua_getmetatable(L, -1)) {
        lua_pushliteral(L, "__index");
        lua_pushvalue(L, -4);
        lua_rawset(L, -3);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    put_faces(L, &session->own);
}

/* The message handler: from here on the kit's own Lua runs, and describes what was raised. */
static int on_error(lua_State *L)
{
    struct session *session = vm_of(L)->owner;
    lua_settop(L, 1);
    keep_faces(L, &session->left);
    put_faces(L, &session->own);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    put_faces(L, &session->left);
    return 1;
}

/* The function on top of the stack, whose handler is at 1. */
static int call_guarded(lua_State *L, struct session *session)
{
    struct vm *vm = session->vm;
    set_alarm(true);
    vm->exhausted = false;
    vm->enforcing = true;
    int status = guard_call_alone(vm, L, 0, 0, 1);
    vm->enforcing = false;
    set_alarm(false);
    if (status == GUARD_ESCAPED)
        _longjmp(session->out, 1);
    return status;
}

/* call(function, handler, name, stays): nil, or what the handler made of the error, or { message,
 * traceback } when it was stopped. A state that could only be left by a jump ends in session_run.
 */
static int session_call(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct session *session = vm->owner;
    struct failure failure = {0};
    luaL_checktype(L, 1, LUA_TFUNCTION);
    snprintf(running, sizeof running, "%s", luaL_checkstring(L, 3));
    bool stays = lua_toboolean(L, 4);
    lua_settop(L, 2);
    lua_pushcclosure(L, on_error, 1);
    lua_insert(L, 1);
    put_faces(L, &session->theirs);
    push_methods(L);
    lua_insert(L, 2);
    int status = call_guarded(L, session);
    lua_settop(L, status ? 3 : 2);
    lua_pushvalue(L, 2);
    change_faces_back(L, session, stays);
    bool stopped = guard_stopped(vm, status, &failure);
    if (status == 0 && !stopped)
        return 0;
    if (stopped || status != LUA_ERRRUN || lua_type(L, -1) != LUA_TTABLE) {
        if (!stopped && status == LUA_ERRMEM)
            lua_gc(L, LUA_GCCOLLECT, 0);
        push_stopped(vm, L, status, &failure);
    }
    return 1;
}

/* --- what the runner is told --- */

/* tell(kind, text) */
static int session_tell(lua_State *L)
{
    struct session *session = vm_of(L)->owner;
    size_t len;
    const char *kind = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
    lua_State *control = session->control;
    lua_pushvalue(control, session->tell);
    lua_pushstring(control, kind);
    lua_pushlstring(control, text, len);
    if (lua_pcall(control, 2, 0, 0) == 0)
        return 0;
    lua_pushstring(L, lua_tostring(control, -1));
    lua_pop(control, 1);
    return lua_error(L);
}

/* --- its life --- */

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

static int open_inner(lua_State *L)
{
    static const luaL_Reg functions[] = {{"call", session_call},
                                         {"tell", session_tell},
                                         {"own_string", session_own_string},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}

static int open_stage(lua_State *L)
{
    stage_open(L, settings.sim);
    return 1;
}

/* With the function of boot.lua on its stack, which runs the file. NULL: why is pushed on L. */
static struct vm *new_state(lua_State *L, struct session *session)
{
    struct err err;
    struct failure failure = {0};
    struct vm *vm = vm_new(MEMORY_MOST, session, &err);
    if (!vm) {
        lua_pushstring(L, err.message);
        return NULL;
    }
    for (int type = 0; type < TYPES; type++)
        session->own.refs[type] = session->theirs.refs[type] = session->left.refs[type] = LUA_NOREF;
    preload(vm->L, "moonbus.test.stage", open_stage);
    preload(vm->L, "moonbus.test.session", open_inner);
    preload(vm->L, "moonbus.test.files", files_open);
    preload(vm->L, "moonbus.core", api_open_values);
    if (vm_module(vm, BOOT, &failure)) {
        lua_pushstring(L, failure.err.message);
        failure_clear(&failure);
        vm_free(vm);
        return NULL;
    }
    lua_pushvalue(vm->L, -1);
    lua_setfield(vm->L, LUA_REGISTRYINDEX, BOOT);
    /* Nothing compiled: it would not see the hook that ends it. */
    vm_set_jit(vm, false);
    vm->cpu_ns = settings.limit_ns;
    return vm;
}

/* run(path, options, tell): "done"; "left", when the state had to be left with a test that ran; nil
 * and why. options: a text, for moonbus.test.file. tell(kind, text) must not fail. */
static int session_run(lua_State *L)
{
    struct session *session = lua_newuserdata(L, sizeof *session);
    const char *path = luaL_checkstring(L, 1), *options = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    *session = (struct session){.control = L, .tell = 3};
    lua_pushnil(L);
    session->vm = new_state(L, session);
    if (!session->vm)
        return 2;
    if (_setjmp(session->out)) {
        set_alarm(false);
        session->vm->enforcing = false;
        vm_discard(session->vm);
        guard_reset();
        lua_pushliteral(L, "left");
        return 1;
    }
    lua_State *inner = session->vm->L;
    lua_pushstring(inner, path);
    lua_pushstring(inner, options);
    bool ran = lua_pcall(inner, 2, 0, 0) == 0;
    if (ran)
        lua_pushliteral(L, "done");
    else
        lua_pushstring(L, lua_tostring(inner, -1));
    vm_free(session->vm);
    return ran ? 1 : 2;
}

static int session_covered(lua_State *L)
{
    coverage_push(L);
    return 1;
}

int session_open(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, session_covered);
    lua_setfield(L, -2, "covered");
    lua_pushcfunction(L, session_run);
    lua_setfield(L, -2, "run");
    lua_pushcfunction(L, session_last_words);
    lua_setfield(L, -2, "last_words");
    return 1;
}
