/* failure - an error value of any kind as a sentence with a code, a place and a traceback.
 *
 * Error values belong to scripts: reading one may run their code, fail, or meet the memory limit.
 * So all of it happens in a protected call, on a state that is alive: that of the value, or the
 * main state for a coroutine that an error has ended. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "vm/guard.h"
#include "vm/vm_private.h"

/* Nats-Service-Error-Code, as HTTP has them. */
#define STATUS_LEAST 400
#define STATUS_MOST 599

struct description {
    lua_State *at; /* may be NULL */
    int skip;
    const char *text; /* of a value whose __tostring has been called; or NULL */
    struct failure *failure;
};

void failure_clear(struct failure *failure)
{
    free(failure->file);
    free(failure->traceback);
    *failure = (struct failure){0};
}

/* "moonbus" and "moonbus.loader" are the host's chunks; "moonbus.lua" may be a script. */
static bool is_host_chunk(const char *name, size_t len)
{
    if (len < 7 || memcmp(name, "moonbus", 7) != 0)
        return false;
    if (len == 7)
        return true;
    return name[7] == '.' && !(len > 4 && memcmp(name + len - 4, ".lua", 4) == 0);
}

/* Is it a chunk's name, as messages shorten it? Then file gets the whole name. */
static bool is_script_chunk(lua_State *at, const char *name, size_t len, char *file, size_t size)
{
    snprintf(file, size, "%.*s", (int)len, name);
    lua_Debug debug;
    bool end = !at;
    for (int level = 0; !end; level++) {
        if (where_level(at, level, &debug, &end) && strcmp(debug.short_src, file) == 0) {
            snprintf(file, size, "%s", where_source(&debug));
            return true;
        }
    }
    return len > 4 && memcmp(name + len - 4, ".lua", 4) == 0;
}

/* The first "...:<digits>: " of text: the length of what is before it, and what is after it. */
static bool split_place(const char *text, size_t *name_len, int *line, const char **rest)
{
    for (const char *colon = strchr(text, ':'); colon; colon = strchr(colon + 1, ':')) {
        char *end;
        if (!isdigit((unsigned char)colon[1]))
            continue;
        long number = strtol(colon + 1, &end, 10);
        if (end[0] != ':' || end[1] != ' ')
            continue;
        *name_len = (size_t)(colon - text);
        *line = (int)number;
        *rest = end + 2;
        return true;
    }
    return false;
}

/* Takes the place off the text, and into failure if it is a script's. Returns the rest. */
static const char *take_place(lua_State *at, const char *text, struct failure *failure)
{
    char file[512];
    size_t len;
    int line;
    const char *rest;
    while (split_place(text, &len, &line, &rest)) {
        if (is_host_chunk(text, len)) {
            text = rest;
            continue;
        }
        if (!is_script_chunk(at, text, len, file, sizeof file))
            break;
        if (!failure->file) {
            failure->file = strdup(file);
            failure->line = line;
        }
        return rest;
    }
    return text;
}

static void add_place(lua_State *at, struct failure *failure)
{
    char file[512];
    if (!failure->file && at && where_find(at, file, sizeof file, &failure->line))
        failure->file = strdup(file);
}

static int stringify(lua_State *L)
{
    if (!luaL_callmeta(L, 1, "__tostring") || lua_type(L, -1) != LUA_TSTRING) {
        lua_settop(L, 0);
        lua_pushnil(L);
    }
    return 1;
}

/* The string at index, which must stay there; or, if it has NULs, which would end it here, one with
 * "\\0" in their place, pushed. */
static const char *whole_text(lua_State *L, int index)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    luaL_Buffer buffer;
    if (strlen(text) == len)
        return text;
    luaL_buffinit(L, &buffer);
    for (size_t i = 0; i < len; i++) {
        if (text[i])
            luaL_addchar(&buffer, text[i]);
        else
            luaL_addstring(&buffer, "\\0");
    }
    luaL_pushresult(&buffer);
    return lua_tostring(L, -1);
}

/* Pushes what a value says of itself; without a __tostring, its type, and what is in a table.
 * failed: that raised. */
static const char *push_type(lua_State *L, int index, bool failed)
{
    char number[NUMBER_SHOWN];
    const char *fails = failed ? ", whose __tostring fails" : "";
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return lua_pushliteral(L, "an error without a value (nil)"), lua_tostring(L, -1);
    case LUA_TNUMBER:
        return lua_pushstring(L, number_show(lua_tonumber(L, index), number)), lua_tostring(L, -1);
    case LUA_TTABLE:
        lua_pushfstring(L, "an error of type table%s: %s", fails, vm_show_table(L, index));
        lua_remove(L, -2);
        return lua_tostring(L, -1);
    case LUA_TBOOLEAN:
        return lua_pushfstring(L, "error(%s)", lua_toboolean(L, index) ? "true" : "false");
    default:
        return lua_pushfstring(L, "an error of type %s%s", luaL_typename(L, index), fails);
    }
}

/* Pushes the text of a value that is no string and has no message. __tostring is a script's code:
 * it runs under the limit. */
static const char *push_text(lua_State *L, int index, const struct description *description)
{
    if (description->text)
        return lua_pushstring(L, description->text), lua_tostring(L, -1);
    struct vm *vm = vm_of(L);
    lua_pushcfunction(L, stringify);
    lua_pushvalue(L, index);
    vm->enforcing = true;
    int status = guard_call(vm, L, 1, 1, 0);
    vm->enforcing = false;
    if (status == 0 && lua_type(L, -1) == LUA_TSTRING)
        return whole_text(L, lua_gettop(L));
    lua_pop(L, 1);
    return push_type(L, index, status != 0);
}

/* Pushes a field of the error table, or nil; never runs its metamethods. */
static const char *push_field(lua_State *L, int index, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, index);
    return lua_type(L, -1) == LUA_TSTRING ? whole_text(L, lua_gettop(L)) : NULL;
}

/* What others answered (service_error) is not this handler's own. */
static int status_of(lua_State *L, int index, enum err_code code)
{
    lua_pushliteral(L, "status");
    lua_rawget(L, index);
    lua_Number status = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : 0; /* or "404" */
    lua_pop(L, 1);
    bool stated = code != ERR_SERVICE && status >= STATUS_LEAST && status <= STATUS_MOST;
    return stated && status == (int)status ? (int)status : 0;
}

static void describe_table(lua_State *L, int index, struct description *description)
{
    struct failure *failure = description->failure;
    const char *name = push_field(L, index, "code");
    const char *message = push_field(L, index, "message");
    const char *file = push_field(L, index, "file");
    const char *traceback = push_field(L, index, "traceback");
    push_field(L, index, "line");
    if (file) {
        failure->file = strdup(file);
        failure->line = (int)lua_tointeger(L, -1);
    }
    if (traceback)
        failure->traceback = strdup(traceback);
    enum err_code code = name ? err_named(name) : ERR_NONE;
    failure->status = status_of(L, index, code);
    if (!message)
        message = name ? name : push_text(L, index, description);
    message = take_place(description->at, message, failure);
    if (code != ERR_NONE || !name || message == name)
        err_set(&failure->err, code != ERR_NONE ? code : ERR_HANDLER, "%s", message);
    else
        err_set(&failure->err, ERR_HANDLER, "%s: %s", name, message);
}

static void describe_text(lua_State *L, const char *text, struct description *description)
{
    struct vm *vm = vm_of(L);
    struct failure *failure = description->failure;
    text = take_place(description->at, text, failure);
    if (!*text)
        text = "an error without a text";
    if (vm->exhausted && strcmp(text, VM_NO_MEMORY) == 0)
        err_set(&failure->err, ERR_MEMORY, "not enough memory: the limit of %zu KB is reached",
                vm->limit_bytes / 1024);
    else
        err_set(&failure->err, ERR_HANDLER, "%s", text);
}

/* The traceback without the lines of the host's own Lua; NULL when nothing is left. */
static char *copy_traceback(const char *text)
{
    char *copy = malloc(strlen(text) + 1), *to = copy;
    if (!copy)
        return NULL;
    int lines = 0;
    while (*text) {
        const char *end = strchr(text, '\n');
        size_t len = end ? (size_t)(end - text) + 1 : strlen(text);
        const char *name = text + (*text == '\t');
        if (!is_host_chunk(name, strcspn(name, ":"))) {
            memcpy(to, text, len);
            to += len;
            lines++;
        }
        text += len;
    }
    while (to > copy && to[-1] == '\n')
        to--;
    *to = '\0';
    /* Of text that could not be compiled there is nothing but the raise itself. */
    if (lines <= 1 || (lines == 2 && strstr(copy, "[C]: in function 'error'"))) {
        free(copy);
        return NULL;
    }
    return copy;
}

static const char raised_key; /* its address: of the table in the registry */

void vm_keep_raised(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&raised_key);
    lua_insert(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Pushes the table if it has this value, and that did not just come from here; else nil. */
static bool push_raised(lua_State *L, int value, lua_State *at)
{
    char file[512];
    int line = 0;
    bool found = at && where_find(at, file, sizeof file, &line);
    lua_pushlightuserdata(L, (void *)&raised_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_type(L, -1) != LUA_TTABLE)
        return false;
    int table = lua_gettop(L);
    push_field(L, table, "value");
    bool same = !lua_isnil(L, -1) && lua_rawequal(L, value, -1);
    const char *first = push_field(L, table, "file");
    lua_pushliteral(L, "line");
    lua_rawget(L, table);
    bool here = found && first && strcmp(first, file) == 0 && lua_tointeger(L, -1) == line;
    lua_settop(L, table);
    return same && !here;
}

/* What comes before it where it has been raised again: its lines without the head. */
static const char *lines_of(const char *traceback)
{
    static const char head[] = "stack traceback:", raise[] = "\n\t[C]: in function 'error'";
    if (strncmp(traceback, head, sizeof head - 1) == 0)
        traceback += sizeof head - 1;
    if (strncmp(traceback, raise, sizeof raise - 1) == 0)
        traceback += sizeof raise - 1;
    return traceback;
}

/* The error on its way through several coroutines: its first place, and all their tracebacks. */
static void put_raised(lua_State *L, struct failure *failure)
{
    int table = lua_gettop(L);
    const char *before = push_field(L, table, "traceback");
    const char *file = push_field(L, table, "file");
    lua_pushliteral(L, "line");
    lua_rawget(L, table);
    if (file && !failure->file && (failure->file = strdup(file)))
        failure->line = (int)lua_tointeger(L, -1);
    if (before) {
        lua_pushfstring(L, "%s%s", before, failure->traceback ? lines_of(failure->traceback) : "");
        free(failure->traceback);
        failure->traceback = strdup(lua_tostring(L, -1));
    }
}

static void push_traceback(lua_State *L, lua_State *at, int level)
{
    if (vm_of(L)->shows_locals)
        frames_push(L, at, level);
    else
        luaL_traceback(L, at, NULL, level);
}

/* LuaJIT has lost the line of the innermost function with its coroutine; the error's text had it.
 */
static void put_line(struct failure *failure)
{
    static const char head[] = "stack traceback:\n\t";
    const char *text = failure->traceback, *file = failure->file;
    if (!text || !file || strncmp(text, head, sizeof head - 1) != 0)
        return;
    size_t len = sizeof head - 1 + strcspn(text + sizeof head - 1, ":\n"), name_len = strlen(file);
    bool lost = text[len] == ':' && text[len + 1] == ' ' && len >= sizeof head - 1 + name_len &&
                memcmp(text + len - name_len, file, name_len) == 0;
    size_t size = strlen(text) + 16;
    char *whole = lost ? malloc(size) : NULL;
    if (!whole)
        return;
    snprintf(whole, size, "%.*s:%d%s", (int)len, text, failure->line, text + len);
    free(failure->traceback);
    failure->traceback = whole;
}

/* Protected: (description, value). */
static int describe(lua_State *L)
{
    struct description *description = lua_touserdata(L, 1);
    struct failure *failure = description->failure;
    lua_State *at = description->at;
    if (lua_type(L, 2) == LUA_TTABLE)
        describe_table(L, 2, description);
    else if (lua_type(L, 2) == LUA_TSTRING)
        describe_text(L, whole_text(L, 2), description);
    else
        describe_text(L, push_text(L, 2, description), description);
    if (at && !failure->traceback) {
        push_traceback(L, at, at == L ? description->skip : 0);
        failure->traceback = copy_traceback(lua_tostring(L, -1));
        put_line(failure);
        if (push_raised(L, 2, at))
            put_raised(L, failure);
    }
    return 0;
}

/* Protected: (failure). */
static int trace(lua_State *L)
{
    struct failure *failure = lua_touserdata(L, 1);
    push_traceback(L, L, 1);
    failure->traceback = copy_traceback(lua_tostring(L, -1));
    return 0;
}

void failure_trace(lua_State *L, struct failure *failure)
{
    add_place(L, failure);
    lua_pushcfunction(L, trace);
    lua_pushlightuserdata(L, failure);
    if (lua_pcall(L, 1, 0, 0))
        lua_pop(L, 1);
}

static void fill(lua_State *L, struct description *description)
{
    struct failure *failure = description->failure;
    lua_State *at = description->at;
    *failure = (struct failure){0};
    int value = lua_gettop(L);
    lua_pushcfunction(L, describe);
    lua_pushlightuserdata(L, description);
    lua_pushvalue(L, value);
    int status = lua_pcall(L, 2, 0, 0);
    vm_of(L)->enforcing = false;
    /* As after a stack overflow, when there is no room left to call anything. */
    if (status && failure->err.code == ERR_NONE && lua_type(L, value) == LUA_TSTRING)
        describe_text(L, lua_tostring(L, value), description);
    else if (failure->err.code == ERR_NONE)
        err_set(&failure->err, ERR_HANDLER, "an error that cannot be described");
    add_place(at, failure);
    lua_settop(L, value - 1);
}

void failure_fill(lua_State *L, lua_State *at, int skip, struct failure *failure)
{
    struct description description = {at, skip, NULL, failure};
    fill(L, &description);
}

/* Protected: (value) -> what its __tostring says, or a sentence; nil for what needs none called. */
static int text_of(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TTABLE) {
        push_field(L, 1, "code");
        push_field(L, 1, "message");
        if (lua_type(L, -1) == LUA_TSTRING || lua_type(L, -2) == LUA_TSTRING)
            return lua_pushnil(L), 1;
    }
    lua_settop(L, 1);
    /* Not stringify, which would be a function of the host below the script's. */
    if (!luaL_getmetafield(L, 1, "__tostring"))
        return lua_pushnil(L), 1;
    lua_insert(L, 1);
    return 2;
}

/* Replaces the value on top of the main state by itself and its text, or nil. False: left by a
 * jump, the state is broken. */
static bool push_own_text(struct vm *vm, struct failure *failure)
{
    lua_State *L = vm->L;
    int value = lua_gettop(L);
    lua_pushcfunction(L, text_of);
    lua_pushvalue(L, value);
    if (lua_pcall(L, 1, LUA_MULTRET, 0) || lua_gettop(L) != value + 2) {
        lua_settop(L, value);
        lua_pushnil(L);
        return true;
    }
    vm->enforcing = true;
    int status = guard_call_alone(vm, L, 1, 1, 0);
    vm->enforcing = false;
    if (status == GUARD_ESCAPED)
        return guard_stopped(vm, status, failure), false;
    guard_reset();
    if (status || lua_type(L, -1) != LUA_TSTRING) {
        lua_settop(L, value);
        push_type(L, value, status != 0);
    }
    return true;
}

bool vm_describe(struct vm *vm, lua_State *L, int index, lua_State *at, struct failure *failure)
{
    bool enforcing = vm->enforcing, whole;
    lua_State *main = vm->L;
    vm->enforcing = false;
    /* An error that has ended L may have left no room on its stack. */
    if (index != -1)
        lua_pushvalue(L, index);
    lua_xmove(L, main, 1);
    whole = push_own_text(vm, failure);
    if (whole) {
        struct description description = {at, 0, lua_tostring(main, -1), failure};
        lua_insert(main, -2); /* the text stays below, for description borrows it */
        fill(main, &description);
        lua_pop(main, 1);
    }
    vm->enforcing = enforcing;
    return whole;
}
