/* text - a growing piece of text, and how foreign bytes are put into it without harm: no control
 * character, no broken UTF-8, nothing that could end a line or steer a terminal.
 *
 * For one thread at a time. */
#ifndef MOONBUS_BASE_TEXT_H
#define MOONBUS_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    /* Owned once it has outgrown `small`, which it points to before. A NUL stands behind the last
     * one, also after a failure, so that it is a C string as far as nobody puts a NUL into it. */
    char *bytes;
    size_t len, capacity;
    bool failed; /* out of memory: what came after is missing */
    char small[1024];
};

void text_init(struct text *text);
void text_clear(struct text *text);

void text_add(struct text *text, const char *bytes, size_t len);
void text_puts(struct text *text, const char *string);
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_vprintf(struct text *text, const char *format, va_list args);

/* For people: a line break becomes \n, another control character but a tab \x1b or \u009b, a byte
 * that is not UTF-8 \xff. */
void text_escape(struct text *text, const char *bytes, size_t len);

/* The same inside a JSON string, quotes included. A byte that is not UTF-8 becomes the text
 * "\xff". */
void text_json_string(struct text *text, const char *bytes, size_t len);

/* Members of an object that has one before: ,"key":"string" and ,"key":7. Nothing for NULL, and 0.
 * key: as it is. */
void text_json_member(struct text *text, const char *key, const char *string);
void text_json_count(struct text *text, const char *key, uint64_t number);

/* JSON that is well-formed but for bytes in its strings that are not UTF-8. */
void text_json_raw(struct text *text, const char *json, size_t len);

#endif
