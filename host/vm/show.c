/* show - a table as a short text for the log: {reason = "x", [1] = a table}. No code of the script
 * runs for it, so metamethods do not count. Names are sorted, so that the same table gives the same
 * text. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/path.h"
#include "base/text.h"
#include "base/utf8.h"
#include "vm/vm_private.h"

/* What is cut: more of one string, of the whole table, of tables in each other. */
struct form {
    size_t string_most, table_most;
    int depth_most;
};

static const struct form in_errors = {60, 200, 1};
static const struct form in_log = {1000, 4000, 5};
static const struct form in_frames = {200, 400, 3};

#define TEXT_MOST 4000

struct shown {
    const struct form *form;
    char text[TEXT_MOST + 8];
    size_t len;
    size_t whole; /* what is shown of whole fields */
    bool full;
};

static void add_shown(struct shown *shown, const char *text, size_t len)
{
    if (shown->full || shown->len + len > shown->form->table_most) {
        shown->full = true;
        return;
    }
    memcpy(shown->text + shown->len, text, len);
    shown->len += len;
}

static void puts_to(struct shown *shown, const char *text)
{
    add_shown(shown, text, strlen(text));
}

static void add_string(struct shown *shown, const char *text, size_t len)
{
    size_t most = utf8_cut(text, len, shown->form->string_most);
    puts_to(shown, "\"");
    add_shown(shown, text, most);
    puts_to(shown, most < len ? "...\"" : "\"");
}

static void add_table(struct shown *shown, lua_State *L, int index, int depth);

/* depth: of the table that it is in. */
static void add_value(struct shown *shown, lua_State *L, int index, int depth)
{
    char number[NUMBER_SHOWN];
    size_t len;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        add_string(shown, text, len);
        break;
    case LUA_TNUMBER:
        puts_to(shown, number_show(lua_tonumber(L, index), number));
        break;
    case LUA_TBOOLEAN:
        puts_to(shown, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TTABLE:
        if (depth < shown->form->depth_most) {
            add_table(shown, L, index, depth + 1);
            break;
        } /* fall through */
    default:
        puts_to(shown, "a ");
        puts_to(shown, lua_typename(L, lua_type(L, index)));
    }
}

static void add_key(struct shown *shown, lua_State *L, int index)
{
    size_t len = 0;
    const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;
    if (text && len <= in_errors.string_most && path_is_name(text, len)) {
        add_shown(shown, text, len);
        return;
    }
    puts_to(shown, "[");
    add_value(shown, L, index, shown->form->depth_most);
    puts_to(shown, "]");
}

static int compare_names(const void *a, const void *b)
{
    const struct vm_name *left = a, *right = b;
    size_t least = left->len < right->len ? left->len : right->len;
    int order = memcmp(left->text, right->text, least);
    return order ? order : (left->len > right->len) - (left->len < right->len);
}

int vm_push_names(lua_State *L, int index, struct vm_name **names)
{
    int count = 0, at = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        count += lua_type(L, -2) == LUA_TSTRING;
    if (count > VM_NAMES_MOST)
        return lua_pushnil(L), -1;
    *names = lua_newuserdata(L, (size_t)(count + 1) * sizeof **names);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && at < count) {
            (*names)[at].text = lua_tolstring(L, -2, &(*names)[at].len);
            at++;
        }
    }
    qsort(*names, (size_t)at, sizeof **names, compare_names);
    return at;
}

/* The key at -2 and its value. item: as the next one of a list it needs no key. */
static void add_field(struct shown *shown, lua_State *L, bool first, bool item, int depth)
{
    int value = lua_gettop(L);
    puts_to(shown, first ? "" : ", ");
    if (!item) {
        add_key(shown, L, value - 1);
        puts_to(shown, " = ");
    }
    add_value(shown, L, value, depth);
    if (depth == 1 && !shown->full)
        shown->whole = shown->len;
}

/* What has no name, and of too many names all of them; returns how many. */
static int add_unnamed(struct shown *shown, lua_State *L, int table, bool names, int depth)
{
    int count = 0;
    lua_pushnil(L);
    while (!shown->full && lua_next(L, table)) {
        bool item = lua_type(L, -2) == LUA_TNUMBER && lua_tonumber(L, -2) == count + 1;
        if (names || lua_type(L, -2) != LUA_TSTRING) {
            add_field(shown, L, count == 0, item && shown->form->depth_most > 1, depth);
            count++;
        }
        lua_pop(L, 1);
    }
    return count;
}

static void add_fields(struct shown *shown, lua_State *L, int table, int depth)
{
    int top = lua_gettop(L);
    struct vm_name *names = NULL;
    luaL_checkstack(L, 8, NULL);
    vm_see_through(L, table);
    int named = vm_push_names(L, table, &names);
    int before = add_unnamed(shown, L, table, named < 0, depth);
    for (int i = 0; i < named && !shown->full; i++) {
        lua_pushlstring(L, names[i].text, names[i].len);
        lua_pushvalue(L, -1);
        lua_rawget(L, table);
        add_field(shown, L, before + i == 0, false, depth);
        lua_pop(L, 2);
    }
    lua_settop(L, top);
}

static void add_table(struct shown *shown, lua_State *L, int index, int depth)
{
    puts_to(shown, "{");
    add_fields(shown, L, index, depth);
    puts_to(shown, "}");
}

static const char *show(lua_State *L, int index, const struct form *form)
{
    struct shown shown = {.form = form};
    lua_pushvalue(L, index);
    add_fields(&shown, L, lua_gettop(L), 1);
    lua_pop(L, 1);
    if (shown.full) {
        shown.len = shown.whole;
        const char *more = shown.len ? ", ..." : "...";
        memcpy(shown.text + shown.len, more, strlen(more));
        shown.len += strlen(more);
    }
    lua_pushliteral(L, "{");
    lua_pushlstring(L, shown.text, shown.len);
    lua_pushliteral(L, "}");
    lua_concat(L, 3);
    return lua_tostring(L, -1);
}

void vm_show_value(lua_State *L, int index, struct text *out)
{
    struct shown shown = {.form = &in_frames};
    lua_pushvalue(L, index);
    if (lua_type(L, -1) == LUA_TNIL)
        puts_to(&shown, "nil");
    else
        add_value(&shown, L, lua_gettop(L), 0);
    lua_pop(L, 1);
    text_escape(out, shown.text, shown.len);
    text_puts(out, shown.full ? "..." : "");
}

const char *vm_show_table(lua_State *L, int index)
{
    return show(L, index, &in_errors);
}

static int show_for_log(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    show(L, 1, &in_log);
    return 1;
}

int show_open(lua_State *L)
{
    lua_pushcfunction(L, show_for_log);
    return 1;
}
