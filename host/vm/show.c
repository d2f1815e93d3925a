/* show - a table as a short text, for who reads the log: {reason = "x", [1] = a table}. Nothing of
 * the script runs for it, so no metamethods count. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "vm/internal.h"

/* More of one string, or of the whole table, is cut. */
#define STRING_MOST 60
#define TABLE_MOST 200

struct shown {
    char text[TABLE_MOST + 8];
    size_t len;
    bool full;
};

static void add(struct shown *shown, const char *text, size_t len)
{
    if (shown->full || shown->len + len > TABLE_MOST) {
        shown->full = true;
        return;
    }
    memcpy(shown->text + shown->len, text, len);
    shown->len += len;
}

static void puts_to(struct shown *shown, const char *text)
{
    add(shown, text, strlen(text));
}

/* Not in the middle of a character. */
static size_t cut(const char *text, size_t len)
{
    if (len <= STRING_MOST)
        return len;
    for (len = STRING_MOST; len > 0 && (text[len] & 0xc0) == 0x80;)
        len--;
    return len;
}

static bool is_name(const char *text, size_t len)
{
    size_t letters =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    return len > 0 && len <= STRING_MOST && letters == len && !(text[0] >= '0' && text[0] <= '9');
}

static void add_string(struct shown *shown, const char *text, size_t len)
{
    size_t most = cut(text, len);
    puts_to(shown, "\"");
    add(shown, text, most);
    puts_to(shown, most < len ? "...\"" : "\"");
}

static void add_value(struct shown *shown, lua_State *L, int index)
{
    char number[40];
    size_t len;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        add_string(shown, text, len);
        break;
    case LUA_TNUMBER:
        snprintf(number, sizeof number, "%.14g", lua_tonumber(L, index));
        puts_to(shown, isnan(lua_tonumber(L, index)) ? "nan" : number);
        break;
    case LUA_TBOOLEAN:
        puts_to(shown, lua_toboolean(L, index) ? "true" : "false");
        break;
    default:
        puts_to(shown, "a ");
        puts_to(shown, lua_typename(L, lua_type(L, index)));
    }
}

static void add_key(struct shown *shown, lua_State *L, int index)
{
    size_t len = 0;
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;
    if (text && is_name(text, len)) {
        add(shown, text, len);
        return;
    }
    puts_to(shown, "[");
    add_value(shown, L, index);
    puts_to(shown, "]");
}

const char *vm_show_table(lua_State *L, int index)
{
    struct shown shown = {.len = 0};
    size_t whole = 0; /* what is shown of whole fields */
    bool first = true;
    luaL_checkstack(L, 4, NULL);
    lua_pushvalue(L, index);
    lua_pushnil(L);
    while (!shown.full && lua_next(L, -2)) {
        whole = shown.len;
        puts_to(&shown, first ? "" : ", ");
        add_key(&shown, L, lua_gettop(L) - 1);
        puts_to(&shown, " = ");
        add_value(&shown, L, lua_gettop(L));
        first = false;
        lua_pop(L, 1);
    }
    lua_settop(L, lua_gettop(L) - (shown.full ? 2 : 1));
    if (shown.full) {
        shown.len = whole;
        memcpy(shown.text + whole, whole ? ", ..." : "...", whole ? 5 : 3);
        shown.len += whole ? 5 : 3;
    }
    lua_pushliteral(L, "{");
    lua_pushlstring(L, shown.text, shown.len);
    lua_pushliteral(L, "}");
    lua_concat(L, 3);
    return lua_tostring(L, -1);
}
