/* api_json - Lua values as JSON text. (JSON text as Lua values: api_json_decode.c.)
 *
 * Written here, not taken from lua-cjson, whose numbers have 14 digits: integers must survive
 * exactly, and never be written with an exponent. A table with the keys 1..n is an array, one with
 * strings an object, an empty one an object unless bus.json.array has marked it. Everything else is
 * an error that names its path, or, for the log, is described. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"
#include "base/path.h"
#include "base/utf8.h"
#include "vm/vm.h"

#define LENIENT_MAX ((size_t)64 << 10)
#define TEXT_MAX ((size_t)64 << 20) /* no NATS server takes more; bounds {a, a} nested 100 deep */

/* Where the walk is: a list from the value up to the root, in the frames of the walk. */
struct json_place {
    const struct json_place *up;
    const void *table; /* the one that this place is in */
    const char *key;   /* NULL: index */
    double index;
    int depth;
};

/* The text. Its memory is the Lua state's, so that the limit on it holds and an error leaks
 * nothing: `small`, then a userdata at stack index `slot`. */
struct output {
    lua_State *L;
    const char *binding;
    bool lenient, sorted;
    char *bytes;
    size_t len, capacity;
    int slot;
    char small[1024];
};

/* Text ----------------------------------------------------------------------------------------- */

static char *reserve(struct output *out, size_t more)
{
    if (more <= out->capacity - out->len)
        return out->bytes + out->len;
    size_t capacity = out->capacity * 2;
    while (capacity - out->len < more)
        capacity *= 2;
    if (out->len + more > TEXT_MAX)
        api_misuse(out->L, "%s: the JSON text is longer than 64MB", out->binding);
    char *bytes = lua_newuserdata(out->L, capacity);
    memcpy(bytes, out->bytes, out->len);
    lua_replace(out->L, out->slot);
    out->bytes = bytes;
    out->capacity = capacity;
    return bytes + out->len;
}

static void put(struct output *out, const char *bytes, size_t len)
{
    memcpy(reserve(out, len), bytes, len);
    out->len += len;
}

static void put_text(struct output *out, const char *text)
{
    put(out, text, strlen(text));
}

static void put_char(struct output *out, char c)
{
    *reserve(out, 1) = c;
    out->len++;
}

/* Errors -----------------------------------------------------------------------------------------
 */

/* "items[2].price", or nothing for the root. */
static void find_path(const struct json_place *place, struct path *path)
{
    path_begin(path);
    for (bool more = true; place && more; place = place->up)
        more = place->key ? path_step_key(path, place->key, strlen(place->key), !place->up)
                          : path_step_index(path, place->index);
}

static void refuse_value(struct output *out, const struct json_place *place, const char *format,
                         ...) __attribute__((format(printf, 3, 4)));

static void refuse_value(struct output *out, const struct json_place *place, const char *format,
                         ...)
{
    char what[256];
    struct path path;
    find_path(place, &path);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    api_misuse(out->L, "%s: %s%s%s", out->binding, path_text(&path), path_colon(&path), what);
}

/* Scalars ----------------------------------------------------------------------------------------
 */

static void put_escaped(struct output *out, unsigned char c)
{
    static const char *const names[] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f",
        ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\"};
    if (c < sizeof names / sizeof *names && names[c]) {
        put(out, names[c], 2);
    } else {
        char text[8];
        snprintf(text, sizeof text, "\\u%04x", c);
        put(out, text, 6);
    }
}

/* The bit 0x80 of each of eight bytes that need something done to them. */
static uint64_t special_bytes(uint64_t bytes)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    uint64_t quote = bytes ^ (ones * '"'), backslash = bytes ^ (ones * '\\');
    uint64_t control = bytes - ones * 0x20;
    quote -= ones;
    backslash -= ones;
    return (bytes | control | quote | backslash) & highs;
}

/* A byte behind a special one may look special as well, for it was borrowed from: so these eight
 * are looked at one by one. */
size_t json_plain_length(const unsigned char *bytes, size_t left)
{
    size_t at = 0;
    uint64_t eight;
    for (; at + 8 <= left; at += 8) {
        memcpy(&eight, bytes + at, 8);
        if (special_bytes(eight))
            break;
    }
    while (at < left && bytes[at] >= 0x20 && bytes[at] < 0x80 && bytes[at] != '"' &&
           bytes[at] != '\\')
        at++;
    return at;
}

static void put_string(struct output *out, const struct json_place *place, const char *text,
                       size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    put_char(out, '"');
    size_t i = 0;
    while (i < len) {
        size_t run = json_plain_length(bytes + i, len - i);
        put(out, text + i, run);
        i += run;
        if (i == len)
            break;
        if (bytes[i] < 0x80) {
            put_escaped(out, bytes[i++]);
            continue;
        }
        size_t length = utf8_length(text + i, len - i);
        if (length == 0 && !out->lenient)
            refuse_value(out, place, "the string is not UTF-8 (byte 0x%02x at %zu)", bytes[i],
                         i + 1);
        if (length == 0) {
            put_text(out, "\\ufffd");
            i++;
        } else {
            put(out, text + i, length);
            i += length;
        }
    }
    put_char(out, '"');
}

static void put_number(struct output *out, const struct json_place *place, double number)
{
    const char *odd = isnan(number) ? "NaN" : isinf(number) ? "infinity" : NULL;
    if (odd && !out->lenient)
        refuse_value(out, place, "JSON has no %s", odd);
    if (odd) {
        put_string(out, place, odd, strlen(odd));
        return;
    }
    out->len += number_format(number, reserve(out, NUMBER_ROOM));
}

/* Tables -----------------------------------------------------------------------------------------
 */

bool json_is_array(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, JSON_ARRAY_METATABLE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static void refuse_key(struct output *out, const struct json_place *place, double key)
{
    char text[NUMBER_ROOM];
    number_format(key, text);
    refuse_value(out, place, "an array cannot have the key %.40s", text);
}

/* The number of items of the table on top; -1 when it is an object. */
static double array_size(struct output *out, const struct json_place *place)
{
    lua_State *L = out->L;
    int table = lua_gettop(L);
    lua_pushnil(L);
    if (!lua_next(L, table))
        return json_is_array(L, table) ? 0 : -1;
    if (lua_type(L, -2) == LUA_TSTRING) {
        lua_pop(L, 2);
        return -1;
    }
    double count = 0, max = 0;
    do {
        double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : -1;
        bool fits = key >= 1 && key == floor(key) && key <= 9007199254740992.0;
        if (!fits && out->lenient) {
            lua_pop(L, 2);
            return -1;
        }
        if (!fits && lua_type(L, -2) == LUA_TSTRING)
            refuse_value(out, place,
                         "a table with both numbers and strings as keys (\"%.64s\") is "
                         "neither an array nor an object",
                         lua_tostring(L, -2));
        else if (!fits && lua_type(L, -2) == LUA_TNUMBER)
            refuse_key(out, place, lua_tonumber(L, -2));
        else if (!fits)
            refuse_value(out, place, "a %s cannot be a key in JSON", api_type_name(L, -2));
        count++;
        max = key > max ? key : max;
        lua_pop(L, 1);
    } while (lua_next(L, table));
    if (count != max && !out->lenient)
        refuse_value(out, place,
                     "the array has holes (%.0f items, the last at %.0f): fill them with "
                     "bus.json.null, or use strings as keys",
                     count, max);
    return count == max ? count : -1;
}

static void put_value(struct output *out, const struct json_place *place);

/* Of what the log cannot have, the rest is left out. */
static bool is_enough(const struct output *out)
{
    return out->lenient && out->len > LENIENT_MAX;
}

static void put_array(struct output *out, struct json_place *place, double size)
{
    lua_State *L = out->L;
    put_char(out, '[');
    for (double i = 1; i <= size && !(is_enough(out) && i > 1); i++) {
        if (i > 1)
            put_char(out, ',');
        lua_rawgeti(L, -1, (int)i);
        place->index = i;
        put_value(out, place);
        lua_pop(L, 1);
    }
    put_char(out, ']');
}

/* The key at -2 of the object whose other keys are strings. */
static void put_key(struct output *out, struct json_place *place)
{
    lua_State *L = out->L;
    size_t len;
    char text[NUMBER_ROOM];
    const char *key = text;
    if (lua_type(L, -2) == LUA_TSTRING) {
        key = lua_tolstring(L, -2, &len);
    } else if (!out->lenient) {
        lua_pop(L, 1);
        refuse_value(out, place->up,
                     "a table with both strings and a %s as keys is neither an array nor "
                     "an object",
                     api_type_name(L, -1));
        return;
    } else {
        if (lua_type(L, -2) == LUA_TNUMBER)
            number_format(lua_tonumber(L, -2), text);
        else
            snprintf(text, sizeof text, "<%s>", luaL_typename(L, -2));
        len = strlen(text);
    }
    place->key = key;
    put_string(out, place, key, len);
    put_char(out, ':');
    if (key == text)
        place->key = "?";
}

/* The key at -2 and the value on top. */
static void put_field(struct output *out, struct json_place *place, bool *first)
{
    if (!*first)
        put_char(out, ',');
    *first = false;
    put_key(out, place);
    put_value(out, place);
}

/* Those fields that have names only if `named`. */
static void put_fields(struct output *out, struct json_place *place, bool named, bool *first)
{
    lua_State *L = out->L;
    int table = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (named || lua_type(L, -2) != LUA_TSTRING)
            put_field(out, place, first);
        lua_pop(L, 1);
        if (is_enough(out)) {
            lua_pop(L, 1);
            break;
        }
    }
}

/* Sorted by name, so that a field of the log always has the same place, and equal values the same
 * text in each Lua state: lua_next goes by hashes, which each state has others of. */
static void put_sorted(struct output *out, struct json_place *place, bool *first)
{
    lua_State *L = out->L;
    int table = lua_gettop(L);
    struct vm_name *names = NULL;
    int count = vm_push_names(L, table, &names);
    lua_insert(L, table); /* below, so that the table is on top */
    put_fields(out, place, count < 0, first);
    for (int i = 0; i < count && !is_enough(out); i++) {
        lua_pushlstring(L, names[i].text, names[i].len);
        lua_pushvalue(L, -1);
        lua_rawget(L, table + 1);
        put_field(out, place, first);
        lua_pop(L, 2);
    }
    lua_remove(L, table);
}

static void put_object(struct output *out, struct json_place *place)
{
    bool first = true;
    put_char(out, '{');
    if (out->sorted)
        put_sorted(out, place, &first);
    else
        put_fields(out, place, true, &first);
    put_char(out, '}');
}

static bool is_cycle(const struct json_place *place, const void *table)
{
    for (; place; place = place->up) {
        if (place->table == table)
            return true;
    }
    return false;
}

static void put_table(struct output *out, const struct json_place *up)
{
    lua_State *L = out->L;
    luaL_checkstack(L, 8, "JSON");
    vm_see_through(L, -1);
    struct json_place place = {
        .up = up, .table = lua_topointer(L, -1), .depth = up ? up->depth + 1 : 1};
    bool cycle = place.depth > JSON_DEPTH_MAX && is_cycle(up, place.table);
    if (place.depth > JSON_DEPTH_MAX && !out->lenient)
        refuse_value(out, up,
                     cycle ? "the table contains itself" : "tables are nested more than %d deep",
                     JSON_DEPTH_MAX);
    /* The log wants a short line of what it cannot have: a cycle is cut early. */
    if (out->lenient && (place.depth > JSON_DEPTH_MAX || is_cycle(up, place.table))) {
        put_text(out, "\"<table>\"");
        return;
    }
    double size = array_size(out, up);
    if (size >= 0)
        put_array(out, &place, size);
    else
        put_object(out, &place);
}

/* The value on top of the stack, which stays there. */
static void put_value(struct output *out, const struct json_place *place)
{
    lua_State *L = out->L;
    size_t len;
    const char *text;
    if (is_enough(out)) {
        put_text(out, "\"...\"");
        return;
    }
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        put(out, "null", 4);
        return;
    case LUA_TBOOLEAN:
        put_text(out, lua_toboolean(L, -1) ? "true" : "false");
        return;
    case LUA_TNUMBER:
        put_number(out, place, lua_tonumber(L, -1));
        return;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        if (out->lenient && len > LENIENT_MAX) {
            put_string(out, place, text, LENIENT_MAX);
            return;
        }
        put_string(out, place, text, len);
        return;
    case LUA_TTABLE:
        put_table(out, place);
        return;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, -1)) {
            put(out, "null", 4);
            return;
        }
        break;
    default:
        break;
    }
    if (!out->lenient)
        refuse_value(out, place, "JSON cannot hold a %s", api_type_name(L, -1));
    put_char(out, '"');
    put_char(out, '<');
    put_text(out, api_type_name(L, -1));
    put_text(out, ">\"");
}

static void encode(lua_State *L, int index, const char *binding, bool lenient, bool sorted)
{
    struct output out;
    out.L = L;
    out.binding = binding;
    out.lenient = lenient;
    out.sorted = sorted;
    out.bytes = out.small;
    out.len = 0;
    out.capacity = sizeof out.small;
    lua_pushvalue(L, index);
    lua_pushnil(L);
    lua_insert(L, -2);
    out.slot = lua_gettop(L) - 1;
    put_value(&out, NULL);
    lua_pushlstring(L, out.bytes, out.len);
    lua_replace(L, out.slot);
    lua_settop(L, out.slot);
}

void api_json_encode(lua_State *L, int index, const char *binding)
{
    encode(L, index, binding, false, false);
}

void api_json_encode_sorted(lua_State *L, int index, const char *binding)
{
    encode(L, index, binding, false, true);
}

void api_json_describe(lua_State *L, int index)
{
    encode(L, index, "json", true, true);
}
