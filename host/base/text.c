/* A growing buffer; control characters and broken UTF-8, escaped. */
#include "base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void text_init(struct text *text)
{
    text->bytes = text->small;
    text->small[0] = '\0';
    text->len = 0;
    text->capacity = sizeof text->small;
    text->failed = false;
}

void text_clear(struct text *text)
{
    if (text->bytes != text->small)
        free(text->bytes);
    text_init(text);
}

/* Room for `more` bytes after len, and the NUL behind them. */
static bool reserve(struct text *text, size_t more)
{
    if (text->failed || more > SIZE_MAX / 4 - text->len - 1) {
        text->failed = true;
        return false;
    }
    if (text->len + more < text->capacity)
        return true;
    size_t capacity = text->capacity * 2;
    if (capacity <= text->len + more)
        capacity = text->len + more + 1;
    bool on_heap = text->bytes != text->small;
    char *bytes = realloc(on_heap ? text->bytes : NULL, capacity);
    if (!bytes) {
        text->failed = true;
        return false;
    }
    if (!on_heap)
        memcpy(bytes, text->small, text->len + 1);
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void text_add(struct text *text, const char *bytes, size_t len)
{
    if (len == 0 || !reserve(text, len))
        return;
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
}

void text_puts(struct text *text, const char *string)
{
    text_add(text, string, strlen(string));
}

void text_vprintf(struct text *text, const char *format, va_list args)
{
    va_list again;
    if (text->failed)
        return;
    size_t room = text->capacity - text->len;
    va_copy(again, args);
    int len = vsnprintf(text->bytes + text->len, room, format, again);
    va_end(again);
    if (len < 0 || (size_t)len >= room) { /* a part of it is there */
        text->bytes[text->len] = '\0';
        if (len < 0 || !reserve(text, (size_t)len))
            return;
        vsnprintf(text->bytes + text->len, (size_t)len + 1, format, args);
    }
    text->len += (size_t)len;
}

void text_printf(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_vprintf(text, format, args);
    va_end(args);
}

/* Characters that could end a line, steer a terminal, or turn the order of what is read. */
static bool is_harmful(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 || point == 0x2029 ||
           (point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
}

static void put_harmful(struct text *text, uint32_t point, bool json)
{
    if (point == '\n')
        text_puts(text, "\\n");
    else if (point == '\r')
        text_puts(text, "\\r");
    else if (point == '\t') /* in JSON */
        text_puts(text, "\\t");
    else if (point < 0x80 && !json)
        text_printf(text, "\\x%02x", (unsigned)point);
    else
        text_printf(text, "\\u%04x", (unsigned)point);
}

static void put(struct text *text, const char *bytes, size_t len, bool json, bool quotes)
{
    const unsigned char *at = (const unsigned char *)bytes;
    size_t start = 0, i = 0;
    while (i < len) {
        uint32_t point = at[i];
        size_t size = point < 0x80 ? 1 : utf8_decode(bytes + i, len - i, &point);
        bool quote = quotes && (point == '"' || point == '\\');
        bool harmful = is_harmful(point) && (json || point != '\t');
        if (size > 0 && !harmful && !quote) {
            i += size;
            continue;
        }
        text_add(text, bytes + start, i - start);
        if (size == 0)
            text_printf(text, json ? "\\\\x%02x" : "\\x%02x", at[i]);
        else if (quote)
            text_printf(text, "\\%c", (char)point);
        else
            put_harmful(text, point, json);
        i += size > 0 ? size : 1;
        start = i;
    }
    text_add(text, bytes + start, len - start);
}

void text_escape(struct text *text, const char *bytes, size_t len)
{
    put(text, bytes, len, false, false);
}

void text_json_string(struct text *text, const char *bytes, size_t len)
{
    text_puts(text, "\"");
    put(text, bytes, len, true, true);
    text_puts(text, "\"");
}

void text_json_member(struct text *text, const char *key, const char *string)
{
    if (!string)
        return;
    text_printf(text, ",\"%s\":", key);
    text_json_string(text, string, strlen(string));
}

void text_json_count(struct text *text, const char *key, uint64_t number)
{
    if (number)
        text_printf(text, ",\"%s\":%llu", key, (unsigned long long)number);
}

void text_json_raw(struct text *text, const char *json, size_t len)
{
    put(text, json, len, true, false);
}
