#include "base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_init(struct text *text)
{
    text->bytes = text->small;
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

/* Room for `more` bytes after len. */
static bool reserve(struct text *text, size_t more)
{
    if (text->failed || more > SIZE_MAX / 4 - text->len) {
        text->failed = true;
        return false;
    }
    if (text->len + more <= text->capacity)
        return true;
    size_t capacity = text->capacity * 2;
    if (capacity < text->len + more)
        capacity = text->len + more;
    bool on_heap = text->bytes != text->small;
    char *bytes = realloc(on_heap ? text->bytes : NULL, capacity);
    if (!bytes) {
        text->failed = true;
        return false;
    }
    if (!on_heap)
        memcpy(bytes, text->small, text->len);
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
}

void text_puts(struct text *text, const char *string)
{
    text_add(text, string, strlen(string));
}

void text_vprintf(struct text *text, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0 || !reserve(text, (size_t)len + 1))
        return;
    vsnprintf(text->bytes + text->len, (size_t)len + 1, format, args);
    text->len += (size_t)len;
}

void text_printf(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_vprintf(text, format, args);
    va_end(args);
}

/* One character of UTF-8: its length, and its code point; 0 for a byte that belongs to none
 * (overlong forms, surrogates and what lies beyond U+10FFFF included). */
static size_t decode(const unsigned char *at, size_t left, uint32_t *point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = at[0] < 0x80 ? 1 : at[0] < 0xC0 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
    if (len == 0 || len > left || at[0] >= 0xF8)
        return 0;
    *point = len == 1 ? at[0] : at[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        *point = *point << 6 | (at[i] & 0x3F);
    }
    if (*point < least[len] || (*point >= 0xD800 && *point < 0xE000) || *point > 0x10FFFF)
        return 0;
    return len;
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
    else if (point == '\t')
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
        uint32_t point = 0;
        size_t size = decode(at + i, len - i, &point);
        bool quote = quotes && (point == '"' || point == '\\');
        if (size > 0 && !is_harmful(point) && !quote) {
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

void text_json_raw(struct text *text, const char *json, size_t len)
{
    put(text, json, len, true, false);
}
