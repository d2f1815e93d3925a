/* bus.json: text that becomes Lua values, and Lua values that become text.
 *
 *   t TEXT    is read; if it can be, it is written and read again; s, n: big integers become
 *             strings or numbers
 *   v BYTES   build a Lua value, which is written; if it can be, it is read again */
#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"
#include "fuzz.h"
#include "vm/vm.h"

#define MEMORY_BYTES (256u << 20)
#define BUILD_DEPTH 200 /* deeper than what may be written */

static struct vm *state(void)
{
    static struct vm *vm; /* as long as the process */
    struct err err;
    if (vm)
        return vm;
    vm = vm_new(MEMORY_BYTES, NULL, &err);
    MUST(vm != NULL);
    lua_newtable(vm->L);
    api_json_open(vm->L);
    lua_pop(vm->L, 1);
    return vm;
}

/* --- are two values the same, as JSON sees them? --- */

static bool same(lua_State *L, int a, int b);

static size_t count_fields(lua_State *L, int index)
{
    size_t count = 0;
    lua_pushnil(L);
    for (; lua_next(L, index); lua_pop(L, 1))
        count++;
    return count;
}

/* Every field of a is the same in b. */
static bool holds(lua_State *L, int a, int b)
{
    bool held = true;
    lua_pushnil(L);
    while (held && lua_next(L, a)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        held = same(L, lua_gettop(L) - 1, lua_gettop(L));
        lua_pop(L, 2);
    }
    if (!held)
        lua_pop(L, 1);
    return held;
}

static bool same(lua_State *L, int a, int b)
{
    if (lua_type(L, a) != LUA_TTABLE || lua_type(L, b) != LUA_TTABLE)
        return lua_rawequal(L, a, b);
    luaL_checkstack(L, 8, "same");
    return json_is_array(L, a) == json_is_array(L, b) && count_fields(L, a) == count_fields(L, b) &&
           holds(L, a, b);
}

/* --- protected calls --- */

static int encode(lua_State *L)
{
    api_json_encode(L, 1, "fuzz");
    return 1;
}

static int describe(lua_State *L)
{
    api_json_describe(L, 1);
    return 1;
}

/* Pushes the function's result for the value at index, or its error. */
static bool call(lua_State *L, lua_CFunction function, int index)
{
    lua_pushcfunction(L, function);
    lua_pushvalue(L, index);
    return lua_pcall(L, 1, 1, 0) == 0;
}

/* True, and the value on top. */
static bool decode(lua_State *L, const char *text, size_t len, enum number_big big)
{
    struct err err;
    int top = lua_gettop(L);
    struct json_reading reading = {.big = big, .remedy = "nothing"};
    int code = api_json_decode(L, text, len, &reading, &err);
    if (code) {
        fuzz_check_err(&err, code);
        MUST(code == ERR_BAD_PAYLOAD);
        MUST(strncmp(err.message, "not JSON", 8) == 0 ||
             (big == BIG_ERROR && strstr(err.message, " is beyond 2^53: ")));
        MUST(lua_gettop(L) == top);
        return false;
    }
    MUST(lua_gettop(L) == top + 1);
    return true;
}

/* Another reader agrees that it is JSON, whole. */
static void check_is_json(const char *text, size_t len)
{
    const char *end = NULL;
    cJSON *item = cJSON_ParseWithLengthOpts(text, len, &end, false);
    MUST(item != NULL);
    while (end < text + len && strchr(" \t\r\n", *end))
        end++;
    MUST(end == text + len);
    cJSON_Delete(item);
}

/* --- text --- */

static void text(lua_State *L, const char *json, size_t len, enum number_big big)
{
    size_t written_len;
    if (!decode(L, json, len, big))
        return;
    check_is_json(json, len);
    MUST(call(L, encode, 1));
    const char *written = lua_tolstring(L, 2, &written_len);
    check_is_json(written, written_len);
    MUST(decode(L, written, written_len, BIG_NUMBER)); /* 1e18 is written with all its digits */
    MUST(same(L, 1, 3));
}

/* --- values --- */

static void push_text(lua_State *L, struct input *input)
{
    size_t len = input_byte(input) % 16;
    if (len > input_left(input))
        len = input_left(input);
    lua_pushlstring(L, (const char *)input->at, len);
    input->at += len;
}

static void push_value(lua_State *L, struct input *input, int depth);

static void push_table(lua_State *L, struct input *input, int depth)
{
    int count = input_byte(input) % 8;
    luaL_checkstack(L, 8, "table");
    lua_newtable(L);
    for (int i = 1; i <= count && input_left(input) > 0; i++) {
        uint8_t kind = input_byte(input) % 8;
        if (kind < 4)
            lua_pushinteger(L, i);
        else if (kind < 7)
            push_text(L, input);
        else
            lua_pushnumber(L, (double)(int8_t)input_byte(input) / 4);
        push_value(L, input, depth + 1);
        lua_rawset(L, -3);
    }
    if (count == 0 && input_byte(input) % 2) {
        luaL_getmetatable(L, JSON_ARRAY_METATABLE);
        lua_setmetatable(L, -2);
    }
}

/* "(((" is a table in a table in a table. */
static void push_value(lua_State *L, struct input *input, int depth)
{
    double number;
    uint64_t bits;
    switch (depth > BUILD_DEPTH ? 'n' : input_byte(input)) {
    case '(':
        luaL_checkstack(L, 8, "table");
        lua_newtable(L);
        push_value(L, input, depth + 1);
        lua_rawseti(L, -2, 1);
        break;
    case '{':
        push_table(L, input, depth);
        break;
    case 's':
        push_text(L, input);
        break;
    case 'b':
        lua_pushboolean(L, input_byte(input) & 1);
        break;
    case 'i':
        lua_pushinteger(L, (int8_t)input_byte(input));
        break;
    case 'd':
        bits = input_number(input);
        memcpy(&number, &bits, sizeof number);
        lua_pushnumber(L, number);
        break;
    case '0':
        lua_pushlightuserdata(L, NULL);
        break;
    case 'f':
        lua_pushcfunction(L, encode);
        break;
    default:
        lua_pushliteral(L, "");
        break;
    }
}

/* A null in an object is absent once it is read; in an array it is there. */
static bool has_null_field(lua_State *L, int index)
{
    bool found = false;
    if (lua_type(L, index) != LUA_TTABLE)
        return false;
    luaL_checkstack(L, 8, "has_null_field");
    lua_pushnil(L);
    while (!found && lua_next(L, index)) {
        found = (lua_islightuserdata(L, -1) && lua_type(L, -2) == LUA_TSTRING) ||
                has_null_field(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    if (found)
        lua_pop(L, 1);
    return found;
}

static void value(lua_State *L, struct input *input)
{
    size_t len;
    push_value(L, input, 0);
    MUST(call(L, describe, 1));
    const char *shown = lua_tolstring(L, 2, &len);
    check_is_json(shown, len);
    if (!call(L, encode, 1)) {
        MUST(lua_type(L, 3) == LUA_TSTRING && strncmp(lua_tostring(L, 3), "fuzz: ", 6) == 0);
        return;
    }
    const char *written = lua_tolstring(L, 3, &len);
    check_is_json(written, len);
    MUST(decode(L, written, len, BIG_NUMBER));
    MUST(lua_islightuserdata(L, 1) || has_null_field(L, 1) || same(L, 1, 4));
}

static void run(lua_State *L, struct input *input)
{
    uint8_t kind = input_byte(input);
    if (kind == 't' || kind == 's' || kind == 'n') {
        size_t len;
        char *json = input_rest(input, &len);
        text(L, json, len, kind == 't' ? BIG_ERROR : kind == 's' ? BIG_STRING : BIG_NUMBER);
        free(json);
    } else if (kind == 'v') {
        value(L, input);
    }
}

void fuzz_json(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    lua_State *L = state()->L;
    run(L, &input);
    lua_settop(L, 0);
}
