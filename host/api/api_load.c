/* api_load - what a script says while it loads: what it handles, and its limits.
 *
 * A registration is built from a table that moonbus.options has checked. It hangs on a userdata
 * until the engine takes it: whatever raises in between frees it. */
#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"
#include "base/value.h"
#include "vm/alike.h"

#define DRAFT_METATABLE "moonbus.registration"

/* The bindings -------------------------------------------------------------------------------- */

static struct loading *check_loading(lua_State *L, const char *binding)
{
    struct loading *loading = instance_of(L)->loading;
    if (!loading)
        api_misuse(L, "%s: only while the script loads (register at the top level)", binding);
    return loading;
}

/* One durable, one handler: of two, each would get some of the messages. */
static void check_rivals(lua_State *L, const struct loading *loading, const struct registration *r)
{
    struct err err;
    for (int i = 0; r->kind->is_rival && i < loading->count; i++) {
        const struct registration *other = loading->items[i];
        if (!r->kind->is_rival(r, other))
            continue;
        r->kind->tell_rival(r, other, true, &err);
        api_misuse(L, "%s: %s", r->kind->binding, err.message);
    }
}

static int collect_draft(lua_State *L)
{
    struct registration **draft = lua_touserdata(L, 1);
    registration_free(*draft);
    *draft = NULL;
    return 0;
}

/* Pushes a userdata that owns a new registration. */
static struct registration **push_draft(lua_State *L)
{
    struct registration **draft = lua_newuserdata(L, sizeof *draft);
    *draft = NULL;
    luaL_getmetatable(L, DRAFT_METATABLE);
    lua_setmetatable(L, -2);
    *draft = calloc(1, sizeof **draft);
    if (!*draft)
        luaL_error(L, "not enough memory");
    return draft;
}

static const struct kind *check_kind(lua_State *L)
{
    const struct kind *kind = kind_named(luaL_checkstring(L, 1));
    if (!kind)
        luaL_argerror(L, 1, "no such kind of registration");
    return kind;
}

/* Any kind: spec.needs = { level = 2, what = "js.count" }: a server below that level refuses it. */
static void read_needs(lua_State *L, struct registration *r)
{
    if (spec_push(L, 2, "needs") == LUA_TTABLE) {
        int needs = lua_gettop(L);
        r->needs_level = (int)spec_number(L, needs, "level", 0);
        r->needs = spec_text(L, needs, "what");
    }
    lua_pop(L, 1);
}

/* core.service_data(service, endpoint, text): the `data` of its STATS, as JSON; nil: none. */
static int core_service_data(lua_State *L)
{
    binding_service_data(instance_of(L), luaL_checkstring(L, 1), luaL_checkstring(L, 2),
                         luaL_optstring(L, 3, NULL));
    return 0;
}

/* By a tail call, as in `return kv.bucket(...)`, nothing of the file is left on the stack. */
static void set_place(lua_State *L, struct registration *registration)
{
    char file[512];
    if (!where_find(L, file, sizeof file, &registration->line)) {
        snprintf(file, sizeof file, "%s", binding_script_name(instance_of(L)));
        registration->line = 1;
    }
    registration->file = spec_copy(L, file);
}

/* core.register(kind, spec, fn): spec from moonbus.options; fn: nil for a stream. Returns the place
 * of the registration in the order of all. */
static int core_register(lua_State *L)
{
    lua_settop(L, 3);
    const struct kind *kind = check_kind(L);
    struct loading *loading = check_loading(L, kind->binding);
    luaL_checktype(L, 2, LUA_TTABLE);
    if (kind_handles(kind))
        luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_checkstack(L, LUA_MINSTACK + ALIKE_STACK, "too many values");

    struct registration **draft = push_draft(L);
    struct registration *r = *draft;
    r->kind = kind;
    set_place(L, r);
    r->alike = lua_isfunction(L, 3) ? alike_function(L, 3) : 0;
    read_needs(L, r);
    const char *wrong = kind->read(L, 2, r);
    if (wrong)
        return api_misuse(L, "%s: %s", kind->binding, wrong);
    check_rivals(L, loading, r);

    lua_pushvalue(L, 3);
    *draft = NULL; /* instance_register may raise after it has taken it */
    if (instance_register(instance_of(L), L, r) != 0) {
        registration_free(r);
        return luaL_error(L, "not enough memory");
    }
    lua_pushinteger(L, loading->count);
    return 1;
}

/* core.check_loading(binding): raises when the script has loaded. */
static int core_check_loading(lua_State *L)
{
    check_loading(L, luaL_checkstring(L, 1));
    return 0;
}

/* core.replace_handler(binding, index, fn): fn is called in place of that registration's function,
 * while the script loads. */
static int core_replace_handler(lua_State *L)
{
    lua_settop(L, 3);
    const struct loading *loading = check_loading(L, luaL_checkstring(L, 1));
    int index = (int)luaL_checkinteger(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_argcheck(L, index >= 1 && index <= loading->count, 2, "no such registration");
    instance_replace_handler(instance_of(L), L, index);
    return 0;
}

/* core.script_limits{workers =, memory =, cpu =, jit =}, from moonbus.options. */
static int core_script_limits(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct loading *loading = check_loading(L, "bus.script");
    loading->workers = (int)spec_number(L, 1, "workers", loading->workers);
    loading->memory_bytes = (size_t)spec_number(L, 1, "memory", (double)loading->memory_bytes);
    if (spec_push(L, 1, "cpu") == LUA_TNUMBER)
        loading->cpu_ns = spec_duration_ns(L, 1, "cpu");
    if (spec_push(L, 1, "jit") == LUA_TBOOLEAN)
        loading->jit_off = !lua_toboolean(L, -1);
    return 0;
}

void api_load_open(lua_State *L)
{
    api_collected(L, DRAFT_METATABLE, collect_draft);
    static const luaL_Reg functions[] = {
        {"register", core_register},           {"service_data", core_service_data},
        {"check_loading", core_check_loading}, {"replace_handler", core_replace_handler},
        {"script_limits", core_script_limits}, {NULL, NULL},
    };
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
