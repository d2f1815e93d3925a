/* utf8 - which bytes are a character, as RFC 3629 has it: no overlong form, no surrogate, nothing
 * beyond U+10FFFF. Pure functions, any thread. */
#ifndef MOONBUS_BASE_UTF8_H
#define MOONBUS_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many bytes the character at bytes takes; 0 when it is none. left: how many there are, at
 * least 1. */
size_t utf8_length(const char *bytes, size_t left);

/* The same, with its code point. */
size_t utf8_decode(const char *bytes, size_t left, uint32_t *point);

/* Is all of it characters? */
bool utf8_is_valid(const char *bytes, size_t len);

/* Where text that was cut after len bytes has to be cut so that no character is left incomplete at
 * its end; len, when it ends in none. */
size_t utf8_whole(const char *text, size_t len);

/* Where text of len bytes has to be cut to have `most` bytes at most; len, when it has. */
size_t utf8_cut(const char *text, size_t len, size_t most);

#endif
