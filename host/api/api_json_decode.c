/* api_json_decode - JSON text as Lua values: lua-cjson reads, and what it leaves is put right.
 *
 * lua-cjson gives null as a light userdata everywhere and forgets that an empty array was one.
 * Here a null in an object is an absent field, and an empty array stays an array. Its text is
 * rewritten for that before it is read, as a list of one string that nobody else would write;
 * after reading, one walk over the tables puts both right. Most texts have neither, and are only
 * scanned. */
#include <lauxlib.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"

#define DEPTH_MAX 128
#define READER "moonbus.json.reader"
#define EMPTY_ARRAY "\x7fmoonbus empty array\x7f"

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

/* Pushes the text with its empty arrays marked; pushes nothing when there are none (or a text that
 * holds the mark itself). */
static bool push_marked(lua_State *L, const char *text, size_t len)
{
    size_t at = 0, end, from = 0;
    if (!next_empty_array(text, len, &at, &end) ||
        memmem(text, len, EMPTY_ARRAY, strlen(EMPTY_ARRAY)))
        return false;
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    do {
        luaL_addlstring(&buffer, text + from, at - from);
        luaL_addstring(&buffer, "\"" EMPTY_ARRAY "\"");
        at = from = end;
    } while (next_empty_array(text, len, &at, &end));
    luaL_addlstring(&buffer, text + from, len - from);
    luaL_pushresult(&buffer);
    return true;
}

static bool is_mark(lua_State *L, int index)
{
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING)
        return false;
    const char *text = lua_tolstring(L, index, &len);
    return len == strlen(EMPTY_ARRAY) && memcmp(text, EMPTY_ARRAY, len) == 0;
}

static void push_empty_array(lua_State *L)
{
    lua_newtable(L);
    luaL_getmetatable(L, JSON_ARRAY_METATABLE);
    lua_setmetatable(L, -2);
}

/* Puts the table on top right, in depth (lua-cjson has bounded it). Changing the value of a key
 * that exists is allowed during a walk. */
static void mend(lua_State *L, bool marked)
{
    luaL_checkstack(L, 8, "JSON");
    int table = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        bool null = lua_type(L, -1) == LUA_TLIGHTUSERDATA;
        if (lua_type(L, -1) == LUA_TTABLE) {
            mend(L, marked);
        } else if (null && lua_type(L, -2) == LUA_TSTRING) {
            lua_pushvalue(L, -2);
            lua_pushnil(L);
            lua_rawset(L, table);
        } else if (marked && is_mark(L, -1)) {
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
    int base = lua_gettop(L);
    luaL_checkstack(L, 8, "JSON");
    bool marked = memchr(text, '[', len) && push_marked(L, text, len);
    int rc = marked ? read_text(L, base + 1) : 1;
    if (rc != 0) {
        /* Read anew, so that its positions are those of the text as it is. */
        lua_settop(L, base);
        lua_pushlstring(L, text, len);
        marked = false;
        rc = read_text(L, base + 1);
    }
    if (rc != 0) {
        const char *sentence = lua_tostring(L, -1);
        err_set(err, ERR_BAD_PAYLOAD, "not JSON: %s", sentence ? sentence : "?");
        lua_settop(L, base);
        return err->code;
    }
    lua_replace(L, base + 1);
    lua_settop(L, base + 1);
    if (marked && is_mark(L, -1)) {
        push_empty_array(L);
        lua_replace(L, base + 1);
    } else if (lua_type(L, -1) == LUA_TLIGHTUSERDATA) {
        lua_pushnil(L);
        lua_replace(L, base + 1);
    } else if (lua_type(L, -1) == LUA_TTABLE && (marked || memmem(text, len, "null", 4))) {
        mend(L, marked);
    }
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

void api_json_decode_open(lua_State *L)
{
    int top = lua_gettop(L);
    vm_open_cjson(L); /* with settings of its own: `require "cjson"` elsewhere changes nothing */
    configure(L, "decode_invalid_numbers", -1);
    configure(L, "decode_max_depth", DEPTH_MAX);
    lua_getfield(L, -1, "decode");
    lua_setfield(L, LUA_REGISTRYINDEX, READER);
    lua_settop(L, top);
}
