/* api_json_decode - JSON text as Lua values.
 *
 * Written here, not taken from lua-cjson: that gives null as a light userdata everywhere, forgets
 * that an empty array was one, takes raw control characters and "1.", and makes other integers of
 * those beyond 2^53. Here a null in an object is an absent field, an empty array stays an array,
 * and what would change is refused by its path.
 *
 * It descends by recursion, DEPTH_MAX deep, and holds nothing but values on the Lua stack, so a Lua
 * error (there is no memory) may leave it from anywhere. */
#include <lauxlib.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"
#include "base/path.h"
#include "base/utf8.h"

#define DIGITS_SHOWN 40

struct json_reader {
    lua_State *L;
    const unsigned char *text, *at, *end;
    const struct json_reading *reading;
    struct err *err;
    struct path path; /* to an integer that is refused: filled while the walk returns */
    bool wants_path;
};

/* Errors -----------------------------------------------------------------------------------------
 */

/* Always false; for place, which is counted from 1. */
static bool refuse_at(struct json_reader *r, const unsigned char *place, const char *what)
{
    err_set(r->err, ERR_BAD_PAYLOAD, "not JSON: %s at %zu", what, (size_t)(place - r->text) + 1);
    return false;
}

/* Something else stands there than what is wanted. Always false. */
static bool refuse_next(struct json_reader *r, const char *wanted)
{
    char got[16] = "the end";
    if (r->at < r->end && *r->at >= '!' && *r->at <= '~')
        snprintf(got, sizeof got, "'%c'", *r->at);
    else if (r->at < r->end)
        snprintf(got, sizeof got, "byte 0x%02x", *r->at);
    err_set(r->err, ERR_BAD_PAYLOAD, "not JSON: %s is expected at %zu, got %s", wanted,
            (size_t)(r->at - r->text) + 1, got);
    return false;
}

/* Puts a step before the path. Always false. */
static bool note_step(struct json_reader *r, const char *key, double index, int depth)
{
    if (r->wants_path)
        r->wants_path = key ? path_step_key(&r->path, key, strlen(key), depth == 1)
                            : path_step_index(&r->path, index);
    return false;
}

/* Always false. The sentence is made when the whole path is known. */
static bool refuse_big(struct json_reader *r, const unsigned char *digits, size_t len)
{
    const char *more = len > DIGITS_SHOWN ? "..." : "";
    r->wants_path = true;
    err_set(r->err, ERR_BAD_PAYLOAD,
            "%.*s%s is beyond 2^53: as a number it would lose digits; %s keeps them",
            (int)(len > DIGITS_SHOWN ? DIGITS_SHOWN : len), (const char *)digits, more,
            r->reading->remedy);
    return false;
}

/* Strings -------------------------------------------------------------------------------------- */

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits after "\u", at `at`; -1: they are not there. */
static int hex_number(const struct json_reader *r, const unsigned char *at)
{
    int number = 0;
    if (r->end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        number = number * 16 + digit;
    }
    return number;
}

static size_t put_utf8(uint32_t code, char *out)
{
    if (code < 0x80)
        return out[0] = (char)code, 1;
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf0 << (4 - len)) | code);
    return len;
}

/* "\u00fc" or a pair of surrogates, at the 'u'; its character's length in out, 0: refused. */
static size_t read_code(struct json_reader *r, char *out)
{
    int code = hex_number(r, r->at + 1), low;
    if (code < 0)
        return refuse_at(r, r->at - 1, "\\u without four hex digits"), 0;
    r->at += 5;
    if ((code & 0xf800) != 0xd800)
        return put_utf8((uint32_t)code, out);
    bool pair = code < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u';
    low = pair ? hex_number(r, r->at + 2) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return refuse_at(r, r->at - 6, "half of a pair of surrogates"), 0;
    r->at += 6;
    return put_utf8(0x10000 + (((uint32_t)code & 0x3ff) << 10 | ((uint32_t)low & 0x3ff)), out);
}

/* What follows a backslash; its length in out, 0: refused. */
static size_t read_escape(struct json_reader *r, char *out)
{
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    r->at++;
    if (r->at < r->end && *r->at == 'u')
        return read_code(r, out);
    const char *name = r->at < r->end && *r->at ? strchr(names, *r->at) : NULL;
    if (!name)
        return refuse_at(r, r->at - 1, "an escape that JSON does not have"), 0;
    r->at++;
    return out[0] = meant[name - names], 1;
}

/* Passes over what stands for itself; false: refused. Then there is a quote or a backslash. */
static bool skip_plain(struct json_reader *r)
{
    for (;;) {
        r->at += json_plain_length(r->at, (size_t)(r->end - r->at));
        if (r->at == r->end)
            return refuse_next(r, "the end of the string");
        if (*r->at == '"' || *r->at == '\\')
            return true;
        if (*r->at < 0x20)
            return refuse_at(r, r->at, "a raw control character in a string");
        size_t length = utf8_length((const char *)r->at, (size_t)(r->end - r->at));
        if (length == 0) {
            err_set(r->err, ERR_BAD_PAYLOAD, "not JSON: not UTF-8 (byte 0x%02x at %zu)", *r->at,
                    (size_t)(r->at - r->text) + 1);
            return false;
        }
        r->at += length;
    }
}

/* The rest of a string that has escapes: from its first byte, at its first backslash. */
static bool __attribute__((noinline)) read_escaped(struct json_reader *r, const unsigned char *from)
{
    char code[4];
    luaL_Buffer buffer;
    luaL_buffinit(r->L, &buffer);
    while (*r->at == '\\') {
        luaL_addlstring(&buffer, (const char *)from, (size_t)(r->at - from));
        size_t len = read_escape(r, code);
        if (len == 0)
            return false;
        luaL_addlstring(&buffer, code, len);
        from = r->at;
        if (!skip_plain(r))
            return false;
    }
    luaL_addlstring(&buffer, (const char *)from, (size_t)(r->at - from));
    luaL_pushresult(&buffer);
    r->at++;
    return true;
}

/* At the quote. */
static bool read_string(struct json_reader *r)
{
    const unsigned char *from = ++r->at;
    if (!skip_plain(r))
        return false;
    if (*r->at == '\\')
        return read_escaped(r, from);
    lua_pushlstring(r->L, (const char *)from, (size_t)(r->at - from));
    r->at++;
    return true;
}

/* Numbers -------------------------------------------------------------------------------------- */

/* A number's text, and as much of it as an integer and a power of ten can hold. */
struct number {
    const unsigned char *from;
    uint64_t digits;
    int count; /* of the digits that are in `digits`, but for zeros at the front */
    int power; /* of ten */
    bool negative, integral;
    bool whole; /* all digits are in `digits` */
};

#define COUNT_MOST 19 /* digits that fit into 64 bits */
#define POWER_MOST 100000

static bool is_digit(const struct json_reader *r)
{
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

/* One or more digits. */
static bool read_digits(struct json_reader *r, struct number *number, bool fraction)
{
    if (!is_digit(r))
        return refuse_next(r, "a digit");
    for (; is_digit(r); r->at++) {
        if (number->count >= COUNT_MOST) {
            number->whole = false;
            continue;
        }
        number->digits = number->digits * 10 + (*r->at - '0');
        number->count += number->digits > 0;
        number->power -= fraction;
    }
    return true;
}

static bool read_exponent(struct json_reader *r, struct number *number)
{
    bool negative = false;
    int power = 0;
    r->at++;
    if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
        negative = *r->at++ == '-';
    if (!is_digit(r))
        return refuse_next(r, "a digit");
    for (; is_digit(r); r->at++)
        power = power < POWER_MOST ? power * 10 + (*r->at - '0') : POWER_MOST;
    number->power += negative ? -power : power;
    return true;
}

static bool scan_number(struct json_reader *r, struct number *number)
{
    *number = (struct number){.from = r->at, .integral = true, .whole = true};
    if (*r->at == '-')
        number->negative = true, r->at++;
    const unsigned char *first = r->at;
    if (!read_digits(r, number, false))
        return false;
    if (*first == '0' && r->at > first + 1)
        return refuse_at(r, first, "a number that begins with 0");
    if (r->at < r->end && *r->at == '.') {
        number->integral = false;
        r->at++;
        if (!read_digits(r, number, true))
            return false;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        number->integral = false;
        return read_exponent(r, number);
    }
    return true;
}

/* Exact: both factors are doubles without an error, and so one rounding is all there is. */
static bool small_value(const struct number *number, double *value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int power = number->power < 0 ? -number->power : number->power;
    if (!number->whole || number->digits > (uint64_t)NUMBER_EXACT || power > 22)
        return false;
    *value = (double)number->digits;
    *value = number->power < 0 ? *value / powers[power] : *value * powers[power];
    if (number->negative)
        *value = -*value;
    return true;
}

static bool read_number(struct json_reader *r)
{
    lua_State *L = r->L;
    struct number number;
    double value;
    if (!scan_number(r, &number))
        return false;
    if (small_value(&number, &value)) {
        lua_pushnumber(L, value);
        return true;
    }
    size_t len = (size_t)(r->at - number.from);
    bool big = number.integral;
    if (big && r->reading->big == BIG_ERROR)
        return refuse_big(r, number.from, len);
    lua_pushlstring(L, (const char *)number.from, len);
    if (big && r->reading->big == BIG_STRING)
        return true;
    value = number_parse(lua_tostring(L, -1));
    lua_pop(L, 1);
    if (isinf(value))
        return refuse_at(r, number.from, "a number beyond what a double can hold");
    lua_pushnumber(L, value);
    return true;
}

/* Values --------------------------------------------------------------------------------------- */

static inline void skip_space(struct json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

/* After white space. */
static inline bool next_is(struct json_reader *r, unsigned char c)
{
    skip_space(r);
    return r->at < r->end && *r->at == c;
}

static bool read_value(struct json_reader *r, int depth);

static bool read_array(struct json_reader *r, int depth)
{
    lua_State *L = r->L;
    lua_newtable(L);
    r->at++;
    if (next_is(r, ']')) {
        r->at++;
        luaL_getmetatable(L, JSON_ARRAY_METATABLE);
        lua_setmetatable(L, -2);
        return true;
    }
    for (int index = 1;; index++) {
        if (!read_value(r, depth))
            return note_step(r, NULL, index, depth);
        lua_rawseti(L, -2, index);
        if (next_is(r, ']'))
            return r->at++, true;
        if (r->at >= r->end || *r->at != ',')
            return refuse_next(r, "',' or ']'");
        r->at++;
    }
}

/* One name and its value, for the table on top. */
static bool read_field(struct json_reader *r, int depth)
{
    lua_State *L = r->L;
    if (!next_is(r, '"'))
        return refuse_next(r, "a name in quotes");
    if (!read_string(r))
        return false;
    int name = lua_gettop(L);
    if (!next_is(r, ':'))
        return refuse_next(r, "':'");
    r->at++;
    if (!read_value(r, depth))
        return note_step(r, lua_tostring(L, name), 0, depth);
    if (lua_type(L, -1) == LUA_TLIGHTUSERDATA) { /* an absent field */
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    lua_rawset(L, -3);
    return true;
}

static bool read_object(struct json_reader *r, int depth)
{
    lua_newtable(r->L);
    r->at++;
    if (next_is(r, '}'))
        return r->at++, true;
    for (;;) {
        if (!read_field(r, depth))
            return false;
        if (next_is(r, '}'))
            return r->at++, true;
        if (r->at >= r->end || *r->at != ',')
            return refuse_next(r, "',' or '}'");
        r->at++;
    }
}

static bool read_word(struct json_reader *r, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return refuse_next(r, "a value");
    r->at += len;
    return true;
}

/* Pushes the value after white space; depth: how many tables it is in. False: it is refused. */
static bool read_value(struct json_reader *r, int depth)
{
    lua_State *L = r->L;
    skip_space(r);
    if (r->at == r->end)
        return refuse_next(r, "a value");
    switch (*r->at) {
    case '{':
    case '[':
        if (depth == JSON_DEPTH_MAX) {
            err_set(r->err, ERR_BAD_PAYLOAD,
                    "not JSON that this host reads: nested more than %d levels deep",
                    JSON_DEPTH_MAX);
            return false;
        }
        luaL_checkstack(L, 8, "JSON");
        return *r->at == '{' ? read_object(r, depth + 1) : read_array(r, depth + 1);
    case '"':
        return read_string(r);
    case 'n':
        lua_pushlightuserdata(L, NULL);
        return read_word(r, "null");
    case 't':
        lua_pushboolean(L, 1);
        return read_word(r, "true");
    case 'f':
        lua_pushboolean(L, 0);
        return read_word(r, "false");
    default:
        if (*r->at == '-' || is_digit(r))
            return read_number(r);
        return refuse_next(r, "a value");
    }
}

int api_json_decode(lua_State *L, const char *text, size_t len, const struct json_reading *reading,
                    struct err *err)
{
    static const struct json_reading strict = {.big = BIG_ERROR, .remedy = "a string"};
    struct err unasked;
    struct json_reader r = {
        .L = L,
        .text = (const unsigned char *)text,
        .at = (const unsigned char *)text,
        .end = (const unsigned char *)text + len,
        .reading = reading ? reading : &strict,
        .err = err ? err : &unasked,
    };
    int top = lua_gettop(L);
    if (len == 0)
        return err_set(err, ERR_BAD_PAYLOAD, "not JSON: it is empty");
    luaL_checkstack(L, 8, "JSON");
    path_begin(&r.path);
    bool read = read_value(&r, 0);
    skip_space(&r);
    if (read && r.at < r.end)
        read = refuse_next(&r, "the end");
    if (read)
        return 0;
    if (*path_text(&r.path))
        err_prefix(r.err, "%s", path_text(&r.path));
    lua_settop(L, top);
    return r.err->code;
}
