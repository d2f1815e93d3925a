/* api_json_decode - JSON text as Lua values: lua-cjson reads, and what it leaves is put right.
 *
 * lua-cjson gives null as a light userdata everywhere and forgets that an empty array was one.
 * Here a null in an object is an absent field, and an empty array stays an array. Its text is
 * rewritten for that before it is read, as a string that nobody else can write, being random;
 * after reading, one walk over the tables puts both right. Most texts have neither, and are only
 * scanned. */
#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "api/api.h"
#include "api/api_json.h"

#define DEPTH_MAX 128
#define READER "moonbus.json.reader"
#define EMPTY_ARRAY "moonbus.json.empty_array" /* in the registry: what stands for one */
#define MARK_WORDS 4

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Finds the next empty array at or after *at, outside of strings: from '[' to past ']'. One where a
 * key should be is left as it is: marked, it would be a key. */
static bool next_empty_array(const char *text, size_t len, size_t *at, size_t *end)
{
    bool string = false;
    for (size_t i = *at; i < len; i++) {
        if (string && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            string = !string;
        } else if (!string && text[i] == '[') {
            size_t close = i + 1;
            while (close < len && is_space(text[close]))
                close++;
            if (close >= len || text[close] != ']')
                continue;
            size_t after = close + 1;
            while (after < len && is_space(text[after]))
                after++;
            if (after < len && text[after] == ':')
                continue;
            *at = i;
            *end = close + 1;
            return true;
        }
    }
    return false;
}

/* Pushes the mark, and the text with its empty arrays marked; pushes nothing when there are none.
 */
static bool push_marked(lua_State *L, const char *text, size_t len)
{
    size_t at = 0, end, from = 0;
    if (!next_empty_array(text, len, &at, &end))
        return false;
    lua_getfield(L, LUA_REGISTRYINDEX, EMPTY_ARRAY);
    int mark = lua_gettop(L);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    do {
        luaL_addlstring(&buffer, text + from, at - from);
        luaL_addchar(&buffer, '"');
        luaL_addstring(&buffer, lua_tostring(L, mark));
        luaL_addchar(&buffer, '"');
        at = from = end;
    } while (next_empty_array(text, len, &at, &end));
    luaL_addlstring(&buffer, text + from, len - from);
    luaL_pushresult(&buffer);
    return true;
}

static void push_empty_array(lua_State *L)
{
    lua_newtable(L);
    luaL_getmetatable(L, JSON_ARRAY_METATABLE);
    lua_setmetatable(L, -2);
}

/* Puts the table on top right, in depth (lua-cjson has bounded it). Changing the value of a key
 * that exists is allowed during a walk. mark: its stack index, 0 for none. */
static void mend(lua_State *L, int mark)
{
    luaL_checkstack(L, 8, "JSON");
    int table = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        bool null = lua_type(L, -1) == LUA_TLIGHTUSERDATA;
        if (lua_type(L, -1) == LUA_TTABLE) {
            mend(L, mark);
        } else if (null && lua_type(L, -2) == LUA_TSTRING) {
            lua_pushvalue(L, -2);
            lua_pushnil(L);
            lua_rawset(L, table);
        } else if (mark && lua_rawequal(L, -1, mark)) {
            lua_pushvalue(L, -2);
            push_empty_array(L);
            lua_rawset(L, table);
        }
        lua_pop(L, 1);
    }
}

static int check_text(const char *text, size_t len, struct err *err)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (len == 0)
        return err_set(err, ERR_BAD_PAYLOAD, "not JSON: it is empty");
    for (size_t i = 0; i < len;) {
        if (bytes[i] == 0) /* lua-cjson would take it for the end */
            return err_set(err, ERR_BAD_PAYLOAD, "not JSON: a NUL byte at %zu", i + 1);
        if (bytes[i] < 0x80) {
            i++;
            continue;
        }
        int length = json_utf8_length(bytes + i, len - i);
        if (length == 0)
            return err_set(err, ERR_BAD_PAYLOAD, "not JSON: not UTF-8 (byte 0x%02x at %zu)",
                           bytes[i], i + 1);
        i += (size_t)length;
    }
    return 0;
}

/* Calls lua-cjson with the text at index; its value or its sentence is pushed. */
static int read_text(lua_State *L, int index)
{
    luaL_checkstack(L, 4, "JSON");
    lua_getfield(L, LUA_REGISTRYINDEX, READER);
    lua_pushvalue(L, index);
    int rc = lua_pcall(L, 1, 1, 0);
    const char *text = rc && vm_of(L)->exhausted ? lua_tostring(L, -1) : NULL;
    if (rc == LUA_ERRMEM || (text && strcmp(text, VM_NO_MEMORY) == 0))
        lua_error(L);
    return rc;
}

int api_json_decode(lua_State *L, const char *text, size_t len, struct err *err)
{
    if (check_text(text, len, err) != 0)
        return err->code;
    int base = lua_gettop(L), mark = 0;
    luaL_checkstack(L, 8, "JSON");
    if (memchr(text, '[', len) && push_marked(L, text, len))
        mark = base + 1;
    int rc = mark ? read_text(L, base + 2) : 1;
    if (rc != 0) {
        /* Read anew, so that its positions are those of the text as it is. */
        lua_settop(L, base);
        lua_pushlstring(L, text, len);
        mark = 0;
        rc = read_text(L, base + 1);
    }
    if (rc != 0) {
        const char *sentence = lua_tostring(L, -1);
        err_set(err, ERR_BAD_PAYLOAD, "not JSON: %s", sentence ? sentence : "?");
        lua_settop(L, base);
        return err->code;
    }
    if (mark && lua_rawequal(L, -1, mark))
        push_empty_array(L);
    else if (lua_type(L, -1) == LUA_TLIGHTUSERDATA)
        lua_pushnil(L);
    else if (lua_type(L, -1) == LUA_TTABLE && (mark || memmem(text, len, "null", 4)))
        mend(L, mark);
    lua_replace(L, base + 1);
    lua_settop(L, base + 1);
    return 0;
}

static void configure(lua_State *L, const char *setting, double number)
{
    lua_getfield(L, -1, setting);
    if (number < 0)
        lua_pushboolean(L, 0);
    else
        lua_pushnumber(L, number);
    lua_call(L, 1, 0);
}

/* In plain letters, so that it stands in a JSON string as it is. */
static void push_mark(lua_State *L)
{
    uint32_t words[MARK_WORDS];
    char text[8 * MARK_WORDS + 1];
    if (getrandom(words, sizeof words, 0) != (ssize_t)sizeof words)
        luaL_error(L, "JSON: the system has no random numbers");
    for (int i = 0; i < MARK_WORDS; i++)
        snprintf(text + (size_t)8 * i, 9, "%08" PRIx32, words[i]);
    lua_pushstring(L, text);
}

void api_json_decode_open(lua_State *L)
{
    int top = lua_gettop(L);
    push_mark(L);
    lua_setfield(L, LUA_REGISTRYINDEX, EMPTY_ARRAY);
    vm_open_cjson(L); /* with settings of its own: `require "cjson"` elsewhere changes nothing */
    configure(L, "decode_invalid_numbers", -1);
    configure(L, "decode_max_depth", DEPTH_MAX);
    lua_getfield(L, -1, "decode");
    lua_setfield(L, LUA_REGISTRYINDEX, READER);
    lua_settop(L, top);
}
