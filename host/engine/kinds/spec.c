/* spec - fields of a checked table: texts, numbers, and tables as JSON. */
#include "engine/kinds/spec.h"

#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"

/* So deep may a table be that goes to NATS as JSON. */
#define SPEC_DEPTH_MAX 32

int spec_push(lua_State *L, int table, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, table);
    return lua_type(L, -1);
}

char *spec_copy(lua_State *L, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        luaL_error(L, "not enough memory");
    return copy;
}

char *spec_text(lua_State *L, int table, const char *name)
{
    char *text = NULL;
    if (spec_push(L, table, name) == LUA_TSTRING)
        text = spec_copy(L, lua_tostring(L, -1));
    lua_pop(L, 1);
    return text;
}

double spec_number(lua_State *L, int table, const char *name, double otherwise)
{
    double number = otherwise;
    if (spec_push(L, table, name) == LUA_TNUMBER)
        number = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

int64_t spec_duration_ns(lua_State *L, int table, const char *name)
{
    return llround(spec_number(L, table, name, 0) * (double)NS_PER_S);
}

bool spec_flag(lua_State *L, int table, const char *name)
{
    spec_push(L, table, name);
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

enum update spec_update(lua_State *L, int table)
{
    int type = spec_push(L, table, "update");
    bool yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return type != LUA_TBOOLEAN ? UPDATE_UNSTATED : yes ? UPDATE_YES : UPDATE_NO;
}

/* The table on top of the stack: an empty one is an object, unless NATS wants a list there. */
static bool is_list(lua_State *L, const char *name)
{
    static const char *const lists[] = {"subjects",           "sources",         "tags",
                                        "subject_transforms", "filter_subjects", "priority_groups"};
    if (lua_objlen(L, -1) > 0)
        return true;
    lua_pushnil(L);
    if (lua_next(L, -2)) {
        lua_pop(L, 2);
        return false;
    }
    for (size_t i = 0; name && i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(lists[i], name) == 0)
            return true;
    }
    return false;
}

static cJSON *scalar_json(lua_State *L)
{
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        return cJSON_CreateString(lua_tostring(L, -1));
    case LUA_TNUMBER:
        return cJSON_CreateNumber(lua_tonumber(L, -1));
    case LUA_TBOOLEAN:
        return cJSON_CreateBool(lua_toboolean(L, -1));
    default:
        return NULL;
    }
}

static const char wrong_shape[] =
    "a setting is nested too deep, or is a table with both names and places";
static const char no_memory[] = "not enough memory for the settings";

/* Owns the item. */
static const char *add_json(cJSON *parent, const char *name, cJSON *item)
{
    if (!item)
        return no_memory;
    if (name ? cJSON_AddItemToObject(parent, name, item) : cJSON_AddItemToArray(parent, item))
        return NULL;
    cJSON_Delete(item);
    return no_memory;
}

static const char *fill_json(lua_State *L, cJSON *parent, int depth);

/* Adds the value on top of the stack and pops it. name: NULL in a list. */
static const char *add_value(lua_State *L, cJSON *parent, const char *name, int depth)
{
    const char *wrong = NULL;
    bool is_table = lua_type(L, -1) == LUA_TTABLE;
    cJSON *item = NULL;
    if (is_table)
        item = is_list(L, name) ? cJSON_CreateArray() : cJSON_CreateObject();
    else if (lua_isstring(L, -1) || lua_isboolean(L, -1))
        item = scalar_json(L);
    else
        wrong = wrong_shape;
    if (!wrong)
        wrong = add_json(parent, name, item);
    if (!wrong && is_table)
        wrong = fill_json(L, item, depth + 1);
    lua_pop(L, 1);
    return wrong;
}

/* Adds what is in the table on top of the stack. Stack slots were made sure of; nothing here
 * raises. NULL, or what is wrong. */
static const char *fill_json(lua_State *L, cJSON *parent, int depth)
{
    int table = lua_gettop(L);
    const char *wrong = depth < SPEC_DEPTH_MAX ? NULL : wrong_shape;
    if (cJSON_IsArray(parent)) {
        int count = (int)lua_objlen(L, table);
        for (int i = 1; !wrong && i <= count; i++) {
            lua_rawgeti(L, table, i);
            wrong = add_value(L, parent, NULL, depth);
        }
        return wrong;
    }
    lua_pushnil(L);
    while (!wrong && lua_next(L, table)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            wrong = add_value(L, parent, lua_tostring(L, -2), depth);
        else
            wrong = wrong_shape;
    }
    lua_settop(L, table);
    return wrong;
}

void spec_filters(lua_State *L, int table, struct consumer_spec *consumer)
{
    spec_push(L, table, "filters");
    int list = lua_gettop(L), count = (int)lua_objlen(L, list);
    const char **filters = calloc((size_t)count + 1, sizeof *filters);
    if (!filters)
        luaL_error(L, "not enough memory");
    consumer->filters = filters;
    luaL_Buffer shown;
    luaL_buffinit(L, &shown);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, list, i + 1);
        filters[i] = spec_copy(L, lua_tostring(L, -1));
        lua_pop(L, 1);
        consumer->filter_count = i + 1;
        luaL_addstring(&shown, i ? ", " : "");
        luaL_addstring(&shown, filters[i]);
    }
    if (count == 0)
        luaL_addstring(&shown, "all subjects");
    luaL_pushresult(&shown);
    lua_remove(L, list);
}

const char *spec_json(lua_State *L, int index, struct cJSON **out)
{
    luaL_checkstack(L, 4 * SPEC_DEPTH_MAX, "too many values");
    *out = cJSON_CreateObject();
    lua_pushvalue(L, index);
    const char *wrong = *out ? fill_json(L, *out, 0) : no_memory;
    lua_pop(L, 1);
    return wrong;
}

void spec_name(lua_State *L, struct registration *registration, const char *what,
               const char *format, ...)
{
    char handler[600];
    va_list args;
    va_start(args, format);
    vsnprintf(handler, sizeof handler, format, args);
    va_end(args);
    registration->handler = spec_copy(L, handler);
    registration->what = spec_copy(L, what);
}
