/* Values written into one block, and read from it. */
#include "vm/plain.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/path.h"
#include "vm/vm.h"

#define CDATA 10 /* LuaJIT's own type, which lua.h does not name */
#define SLOTS_FLAT 4
#define SLOTS_PER_LEVEL 4    /* of the stack: a table, its metatable, a key, a value */
#define LENGTH_MAX INT32_MAX /* of one string, and of one table's parts */

struct plain {
    atomic_int references;
    int count; /* values */
    int depth; /* of the deepest table; 0: none */
    size_t len;
    unsigned char bytes[];
};

/* What a value begins with. A number's eight bytes follow, or a string's length and bytes, or a
 * table's two counts: places 1..n, each a value, then pairs. */
enum tag { TAG_NIL, TAG_FALSE, TAG_TRUE, TAG_NUMBER, TAG_STRING, TAG_TABLE, TAG_ARRAY, TAG_NULL };

/* Copying in ---------------------------------------------------------------------------------- */

/* Where the walk is: a list from the value up to the root, in the frames of the walk. */
struct plain_place {
    const struct plain_place *up;
    const void *table; /* the one that this place is in; NULL: the root */
    int key;           /* its index on the stack; 0: `index` */
    double index;
};

struct writer {
    lua_State *L;
    const struct plain_rules *rules;
    struct plain *plain; /* owned */
    size_t capacity;
    int array_mark; /* index of the metatable that marks arrays */
    int root;       /* which of the values it is at, from 1 */
    int depth;
    struct err *err;
};

static bool step_before(lua_State *L, const struct plain_place *place, struct path *path)
{
    size_t len = 0;
    char number[NUMBER_SHOWN], step[NUMBER_SHOWN + 8];
    if (!place->key)
        return path_step_index(path, place->index);
    switch (lua_type(L, place->key)) {
    case LUA_TSTRING: {
        const char *key = lua_tolstring(L, place->key, &len);
        return path_step_key(path, key, len, !place->up->table);
    }
    case LUA_TNUMBER:
        snprintf(step, sizeof step, "[%s]", number_show(lua_tonumber(L, place->key), number));
        break;
    case LUA_TBOOLEAN:
        snprintf(step, sizeof step, "[%s]", lua_toboolean(L, place->key) ? "true" : "false");
        break;
    default:
        snprintf(step, sizeof step, "[a %s]", lua_typename(L, lua_type(L, place->key)));
    }
    return path_step_text(path, step);
}

/* "items[2].fn", or nothing for the root. */
static void find_path(const struct writer *w, const struct plain_place *place, struct path *path)
{
    path_begin(path);
    while (place->table && step_before(w->L, place, path))
        place = place->up;
}

static bool refuse_value(struct writer *w, const struct plain_place *place, enum err_code code,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Always false. */
static bool refuse_value(struct writer *w, const struct plain_place *place, enum err_code code,
                         const char *format, ...)
{
    char root[40] = "", what[256];
    struct path path;
    find_path(w, place, &path);
    if (w->rules->each)
        snprintf(root, sizeof root, "%s %d: ", w->rules->each, w->root);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    err_set(w->err, code, "%s%s%s%s", root, path_text(&path), path_colon(&path), what);
    return false;
}

/* Objects of the host say what they are. */
static const char *type_name(lua_State *L, int index)
{
    const char *name = lua_typename(L, lua_type(L, index));
    if (lua_type(L, index) == LUA_TUSERDATA && luaL_getmetafield(L, index, "__metatable")) {
        if (lua_type(L, -1) == LUA_TSTRING)
            name = lua_tostring(L, -1); /* the metatable keeps it alive */
        lua_pop(L, 1);
    }
    return name;
}

static bool refuse_type(struct writer *w, const struct plain_place *place, int index)
{
    int type = lua_type(w->L, index);
    if (type == CDATA)
        return refuse_value(
            w, place, ERR_INVALID,
            "a value of the FFI (cdata, such as an int64) cannot be %s: use tonumber or "
            "tostring",
            w->rules->verb);
    const char *name = type_name(w->L, index);
    if (strcmp(name, "message") == 0)
        return refuse_value(
            w, place, ERR_INVALID,
            "a message cannot be %s: take what you need of it (msg.data, msg.subject)",
            w->rules->verb);
    return refuse_value(w, place, ERR_INVALID,
                        "a %s cannot be %s: only %sbooleans, numbers, strings and tables of them",
                        name, w->rules->verb, w->rules->each ? "nil, " : "");
}

static bool put(struct writer *w, const struct plain_place *place, const void *bytes, size_t len)
{
    struct plain *plain = w->plain;
    if (len > w->rules->limit_bytes || plain->len > w->rules->limit_bytes - len)
        return refuse_value(w, place, ERR_TOO_LARGE, "more than the %zu KB that may be %s at once",
                            w->rules->limit_bytes / 1024, w->rules->verb);
    if (plain->len + len > w->capacity) {
        size_t capacity = 2 * w->capacity;
        if (capacity < plain->len + len)
            capacity = plain->len + len;
        plain = realloc(plain, sizeof *plain + capacity);
        if (!plain)
            return refuse_value(w, place, ERR_MEMORY, "not enough memory");
        w->plain = plain;
        w->capacity = capacity;
    }
    memcpy(plain->bytes + plain->len, bytes, len);
    plain->len += len;
    return true;
}

static bool put_tag(struct writer *w, const struct plain_place *place, enum tag tag)
{
    unsigned char byte = (unsigned char)tag;
    return put(w, place, &byte, 1);
}

static bool put_number(struct writer *w, const struct plain_place *place, double number)
{
    return put_tag(w, place, TAG_NUMBER) && put(w, place, &number, sizeof number);
}

static bool put_string(struct writer *w, const struct plain_place *place, int index)
{
    size_t len;
    const char *text = lua_tolstring(w->L, index, &len);
    uint32_t length = (uint32_t)len;
    if (len > LENGTH_MAX)
        return refuse_value(w, place, ERR_TOO_LARGE, "a string of %zu bytes", len);
    return put_tag(w, place, TAG_STRING) && put(w, place, &length, sizeof length) &&
           put(w, place, text, len);
}

static bool put_value(struct writer *w, const struct plain_place *place, int index);

static bool put_places(struct writer *w, const struct plain_place *up, int table, uint32_t count)
{
    struct plain_place place = {.up = up, .table = lua_topointer(w->L, table)};
    for (uint32_t i = 1; i <= count; i++) {
        place.index = i;
        lua_rawgeti(w->L, table, (int)i);
        if (!put_value(w, &place, lua_gettop(w->L)))
            return false;
        lua_pop(w->L, 1);
    }
    return true;
}

/* One of the places that put_places has written? */
static bool is_place(lua_State *L, int index, uint32_t count)
{
    if (lua_type(L, index) != LUA_TNUMBER)
        return false;
    double key = lua_tonumber(L, index);
    return key >= 1 && key <= count && key == (double)(uint32_t)key;
}

static bool put_pairs(struct writer *w, const struct plain_place *up, int table, uint32_t places,
                      uint32_t *pairs)
{
    lua_State *L = w->L;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        int value = lua_gettop(L), key = value - 1;
        struct plain_place place = {.up = up, .table = lua_topointer(L, table), .key = key};
        if (!is_place(L, key, places)) {
            int type = lua_type(L, key);
            if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
                return refuse_value(w, &place, ERR_INVALID,
                                    "a %s as key cannot be %s: only strings, numbers and booleans",
                                    lua_typename(L, type), w->rules->verb);
            if (!put_value(w, &place, key) || !put_value(w, &place, value))
                return false;
            ++*pairs;
        }
        lua_pop(L, 1);
    }
    return true;
}

static bool contains_itself(const struct plain_place *place, const void *table)
{
    for (; place->table; place = place->up) {
        if (place->table == table)
            return true;
    }
    return false;
}

static enum tag tag_of_table(struct writer *w, int table)
{
    if (!lua_getmetatable(w->L, table))
        return TAG_TABLE;
    bool marked = lua_rawequal(w->L, -1, w->array_mark);
    lua_pop(w->L, 1);
    return marked ? TAG_ARRAY : TAG_TABLE;
}

static bool put_table(struct writer *w, const struct plain_place *place, int table)
{
    vm_see_through(w->L, table);
    size_t length = lua_objlen(w->L, table);
    uint32_t counts[2] = {(uint32_t)length, 0};
    if (contains_itself(place, lua_topointer(w->L, table)))
        return refuse_value(w, place, ERR_INVALID, "a table that contains itself cannot be %s",
                            w->rules->verb);
    if (w->depth == PLAIN_DEPTH_MAX)
        return refuse_value(w, place, ERR_INVALID, "tables nested more than %d deep cannot be %s",
                            PLAIN_DEPTH_MAX, w->rules->verb);
    if (length > LENGTH_MAX)
        return refuse_value(w, place, ERR_TOO_LARGE, "a table of %zu items", length);
    if (++w->depth > w->plain->depth)
        w->plain->depth = w->depth;
    if (!put_tag(w, place, tag_of_table(w, table)))
        return false;
    size_t at = w->plain->len;
    if (!put(w, place, counts, sizeof counts) || !put_places(w, place, table, counts[0]) ||
        !put_pairs(w, place, table, counts[0], &counts[1]))
        return false;
    memcpy(w->plain->bytes + at, counts, sizeof counts);
    w->depth--;
    return true;
}

static bool put_value(struct writer *w, const struct plain_place *place, int index)
{
    lua_State *L = w->L;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return put_tag(w, place, TAG_NIL);
    case LUA_TBOOLEAN:
        return put_tag(w, place, lua_toboolean(L, index) ? TAG_TRUE : TAG_FALSE);
    case LUA_TNUMBER:
        return put_number(w, place, lua_tonumber(L, index));
    case LUA_TSTRING:
        return put_string(w, place, index);
    case LUA_TTABLE:
        return put_table(w, place, index);
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, index))
            return put_tag(w, place, TAG_NULL);
        return refuse_type(w, place, index);
    default:
        return refuse_type(w, place, index);
    }
}

/* A table's walk needs room on the stack, which is made before anything is held. */
static void make_room(lua_State *L, int first, int count)
{
    int slots = SLOTS_FLAT;
    for (int i = first; i < first + count; i++) {
        if (lua_type(L, i) == LUA_TTABLE)
            slots = SLOTS_PER_LEVEL * (PLAIN_DEPTH_MAX + 2);
    }
    luaL_checkstack(L, slots, "too many values");
}

struct plain *plain_copy(lua_State *L, int first, int count, const struct plain_rules *rules,
                         struct err *err)
{
    static const struct plain_place root;
    struct writer w = {.L = L, .rules = rules, .capacity = 48, .err = err};
    int top = lua_gettop(L);
    make_room(L, first, count);
    luaL_getmetatable(L, PLAIN_ARRAY_METATABLE);
    w.array_mark = top + 1;
    w.plain = malloc(sizeof *w.plain + w.capacity);
    bool ok = w.plain || err_set(err, ERR_MEMORY, "not enough memory") == 0;
    if (ok) {
        atomic_init(&w.plain->references, 1);
        w.plain->count = count;
        w.plain->depth = 0;
        w.plain->len = 0;
    }
    for (int i = 0; ok && i < count; i++) {
        w.root = i + 1;
        ok = put_value(&w, &root, first + i);
    }
    lua_settop(L, top);
    if (ok)
        return w.plain;
    free(w.plain);
    return NULL;
}

/* Copying out --------------------------------------------------------------------------------- */

/* Raises, so it holds nothing. */
static const unsigned char *push_value(lua_State *L, const unsigned char *at);

static const unsigned char *push_table(lua_State *L, const unsigned char *at, bool marked)
{
    uint32_t counts[2];
    memcpy(counts, at, sizeof counts);
    at += sizeof counts;
    lua_createtable(L, (int)counts[0], (int)counts[1]);
    for (uint32_t i = 1; i <= counts[0]; i++) {
        at = push_value(L, at);
        lua_rawseti(L, -2, (int)i);
    }
    for (uint32_t i = 0; i < counts[1]; i++) {
        at = push_value(L, at);
        at = push_value(L, at);
        lua_rawset(L, -3);
    }
    if (!marked)
        return at;
    luaL_getmetatable(L, PLAIN_ARRAY_METATABLE);
    lua_setmetatable(L, -2); /* nil in a state that knows no such mark */
    return at;
}

static const unsigned char *push_value(lua_State *L, const unsigned char *at)
{
    double number;
    uint32_t length;
    switch ((enum tag) * at++) {
    case TAG_NIL:
        lua_pushnil(L);
        return at;
    case TAG_FALSE:
    case TAG_TRUE:
        lua_pushboolean(L, at[-1] == TAG_TRUE);
        return at;
    case TAG_NUMBER:
        memcpy(&number, at, sizeof number);
        lua_pushnumber(L, number);
        return at + sizeof number;
    case TAG_STRING:
        memcpy(&length, at, sizeof length);
        lua_pushlstring(L, (const char *)at + sizeof length, length);
        return at + sizeof length + length;
    case TAG_TABLE:
    case TAG_ARRAY:
        return push_table(L, at, at[-1] == TAG_ARRAY);
    case TAG_NULL:
        lua_pushlightuserdata(L, NULL);
        return at;
    }
    return at;
}

int plain_push(lua_State *L, const struct plain *plain)
{
    luaL_checkstack(L, plain->count + SLOTS_PER_LEVEL * (plain->depth + 1), "too many values");
    const unsigned char *at = plain->bytes;
    for (int i = 0; i < plain->count; i++)
        at = push_value(L, at);
    return plain->count;
}

size_t plain_bytes(const struct plain *plain)
{
    return sizeof *plain + plain->len;
}

struct plain *plain_retain(struct plain *plain)
{
    atomic_fetch_add_explicit(&plain->references, 1, memory_order_relaxed);
    return plain;
}

void plain_release(struct plain *plain)
{
    if (plain && atomic_fetch_sub_explicit(&plain->references, 1, memory_order_acq_rel) == 1)
        free(plain);
}
