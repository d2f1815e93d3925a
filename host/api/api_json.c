/* api_json - Lua values as JSON text. (JSON text as Lua values: api_json_decode.c.)
 *
 * Written here, not taken from lua-cjson, whose numbers have 14 digits: integers up to 2^53 must
 * survive exactly. A table with the keys 1..n is an array, one with strings an object, an empty
 * one an object unless bus.json.array has marked it. Everything else is an error that names its
 * path, or, for the log, is described. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"

#define DEPTH_MAX 128
#define LENIENT_MAX ((size_t)64 << 10)
#define TEXT_MAX ((size_t)64 << 20) /* no NATS server takes more; bounds {a, a} nested 100 deep */

/* Where the walk is: a list from the value up to the root, in the frames of the walk. */
struct place {
    const struct place *up;
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
    bool lenient;
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

static bool is_name(const char *key)
{
    size_t len = strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    return len > 0 && key[len] == '\0' && !(key[0] >= '0' && key[0] <= '9');
}

/* In bytes, of a message. Enough for what a person wrote, and for two keys of 64. */
#define PATH_MOST 200

/* "items[2].price: ", or nothing for the root. What does not fit is left out at the front. */
static void path_text(const struct place *place, char *buf, size_t size)
{
    size_t end = size - 1;
    buf[end] = '\0';
    if (place)
        memcpy(buf + (end -= 2), ": ", 2);
    for (; place; place = place->up) {
        char part[96];
        if (!place->key)
            snprintf(part, sizeof part, "[%.14g]", place->index);
        else if (is_name(place->key))
            snprintf(part, sizeof part, "%s%.64s", place->up ? "." : "", place->key);
        else
            snprintf(part, sizeof part, "[\"%.64s\"]", place->key);
        size_t len = strlen(part);
        if (len + 3 > end) {
            memcpy(buf + (end -= 3), "...", 3);
            break;
        }
        memcpy(buf + (end -= len), part, len);
    }
    memmove(buf, buf + end, size - end);
}

static void refuse(struct output *out, const struct place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void refuse(struct output *out, const struct place *place, const char *format, ...)
{
    char path[PATH_MOST], what[256];
    path_text(place, path, sizeof path);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    api_misuse(out->L, "%s: %s%s", out->binding, path, what);
}

/* Scalars ----------------------------------------------------------------------------------------
 */

int json_utf8_length(const unsigned char *bytes, size_t left)
{
    unsigned char c = bytes[0];
    if (c < 0x80)
        return 1;
    int len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || left < (size_t)len)
        return 0;
    for (int i = 1; i < len; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (c == 0xe0 && bytes[1] < 0xa0) || (c == 0xf0 && bytes[1] < 0x90);
    bool surrogate = c == 0xed && bytes[1] > 0x9f;
    bool too_high = c == 0xf4 && bytes[1] > 0x8f;
    return overlong || surrogate || too_high ? 0 : len;
}

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

/* A byte that needs nothing done to it. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static void put_string(struct output *out, const struct place *place, const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    put_char(out, '"');
    size_t i = 0;
    while (i < len) {
        size_t run = i;
        while (run < len && is_plain(bytes[run]))
            run++;
        put(out, text + i, run - i);
        i = run;
        if (i == len)
            break;
        if (bytes[i] < 0x80) {
            put_escaped(out, bytes[i++]);
            continue;
        }
        int length = json_utf8_length(bytes + i, len - i);
        if (length == 0 && !out->lenient)
            refuse(out, place, "the string is not UTF-8 (byte 0x%02x at %zu)", bytes[i], i + 1);
        if (length == 0) {
            put_text(out, "\\ufffd");
            i++;
        } else {
            put(out, text + i, (size_t)length);
            i += (size_t)length;
        }
    }
    put_char(out, '"');
}

/* The shortest text that reads back as the same number. */
static int number_text(double number, char *buf, size_t size)
{
    if (fabs(number) <= 9007199254740992.0 && number == floor(number))
        return snprintf(buf, size, "%lld", (long long)number);
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(buf, size, "%.*g", digits, number);
        if (strtod(buf, NULL) == number)
            break;
    }
    return len;
}

static void put_number(struct output *out, const struct place *place, double number)
{
    const char *odd = isnan(number) ? "NaN" : isinf(number) ? "infinity" : NULL;
    if (odd && !out->lenient)
        refuse(out, place, "JSON has no %s", odd);
    if (odd) {
        put_string(out, place, odd, strlen(odd));
        return;
    }
    char text[40];
    int len = number_text(number, text, sizeof text);
    put(out, text, (size_t)len);
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

/* The number of items of the table on top; -1 when it is an object. */
static double array_size(struct output *out, const struct place *place)
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
            refuse(out, place,
                   "a table with both numbers and strings as keys (\"%.64s\") is "
                   "neither an array nor an object",
                   lua_tostring(L, -2));
        else if (!fits && lua_type(L, -2) == LUA_TNUMBER)
            refuse(out, place, "the key %.14g is none that an array can have", lua_tonumber(L, -2));
        else if (!fits)
            refuse(out, place, "a %s cannot be a key in JSON", api_type_name(L, -2));
        count++;
        max = key > max ? key : max;
        lua_pop(L, 1);
    } while (lua_next(L, table));
    if (count != max && !out->lenient)
        refuse(out, place,
               "the array has holes (%.14g items, the last at %.14g): fill them with "
               "bus.json.null, or use strings as keys",
               count, max);
    return count == max ? count : -1;
}

static void put_value(struct output *out, const struct place *place);

/* Of what the log cannot have, the rest is left out. */
static bool is_enough(const struct output *out)
{
    return out->lenient && out->len > LENIENT_MAX;
}

static void put_array(struct output *out, struct place *place, double size)
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
static void put_key(struct output *out, struct place *place)
{
    lua_State *L = out->L;
    size_t len;
    char text[64];
    const char *key = text;
    if (lua_type(L, -2) == LUA_TSTRING) {
        key = lua_tolstring(L, -2, &len);
    } else if (!out->lenient) {
        lua_pop(L, 1);
        refuse(out, place->up,
               "a table with both strings and a %s as keys is neither an array nor "
               "an object",
               api_type_name(L, -1));
        return;
    } else {
        if (lua_type(L, -2) == LUA_TNUMBER)
            snprintf(text, sizeof text, "%.14g", lua_tonumber(L, -2));
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

static void put_object(struct output *out, struct place *place)
{
    lua_State *L = out->L;
    int table = lua_gettop(L);
    bool first = true;
    put_char(out, '{');
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (!first)
            put_char(out, ',');
        first = false;
        put_key(out, place);
        put_value(out, place);
        lua_pop(L, 1);
        if (is_enough(out)) {
            lua_pop(L, 1);
            break;
        }
    }
    put_char(out, '}');
}

static bool is_cycle(const struct place *place, const void *table)
{
    for (; place; place = place->up) {
        if (place->table == table)
            return true;
    }
    return false;
}

static void put_table(struct output *out, const struct place *up)
{
    lua_State *L = out->L;
    struct place place = {.up = up, .table = lua_topointer(L, -1), .depth = up ? up->depth + 1 : 1};
    bool cycle = place.depth > DEPTH_MAX && is_cycle(up, place.table);
    if (place.depth > DEPTH_MAX && !out->lenient)
        refuse(out, up, cycle ? "the table contains itself" : "tables are nested more than %d deep",
               DEPTH_MAX);
    /* The log wants a short line of what it cannot have: a cycle is cut early. */
    if (out->lenient && (place.depth > DEPTH_MAX || is_cycle(up, place.table))) {
        put_text(out, "\"<table>\"");
        return;
    }
    luaL_checkstack(L, 8, "JSON");
    double size = array_size(out, up);
    if (size >= 0)
        put_array(out, &place, size);
    else
        put_object(out, &place);
}

/* The value on top of the stack, which stays there. */
static void put_value(struct output *out, const struct place *place)
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
        refuse(out, place, "JSON cannot hold a %s", api_type_name(L, -1));
    put_char(out, '"');
    put_char(out, '<');
    put_text(out, api_type_name(L, -1));
    put_text(out, ">\"");
}

static void encode(lua_State *L, int index, const char *binding, bool lenient)
{
    struct output out;
    out.L = L;
    out.binding = binding;
    out.lenient = lenient;
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
    encode(L, index, binding, false);
}

void api_json_describe(lua_State *L, int index)
{
    encode(L, index, "json", true);
}
