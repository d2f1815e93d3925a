/* number - numbers as text. An integer has all its digits and never an exponent (an id that is
 * written as 1.2345678901234e+14 is another id); any other number has the fewest digits that read
 * back as the same.
 *
 * Pure functions, any thread. The text is the same whatever the process's locale. */
#ifndef MOONBUS_BASE_NUMBER_H
#define MOONBUS_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

/* Up to here every integer is a double of its own. */
#define NUMBER_EXACT 9007199254740992.0

/* Enough for every double: 309 digits, a sign, a NUL. */
#define NUMBER_ROOM 320

/* Writes the number to buf (of NUMBER_ROOM bytes); "nan", "inf" or "-inf" for what is none. Returns
 * its length. */
size_t number_format(double number, char *buf);

/* For sentences: as number_format below 10^21, and of what is larger or no integer 14 digits, as
 * Lua shows it. buf has NUMBER_SHOWN bytes. Returns buf. */
#define NUMBER_SHOWN 40
char *number_show(double number, char *buf);

/* Reads digits, a fraction and an exponent, as JSON has them; text ends with a NUL. */
double number_parse(const char *text);

/* What becomes of an integer in JSON that is beyond NUMBER_EXACT. */
enum number_big {
    BIG_ERROR,  /* "error": it is refused */
    BIG_STRING, /* "string": its digits, as a string */
    BIG_NUMBER, /* "number": the nearest number, which may be another one */
};

/* False: there is none of that name. */
bool number_big_named(const char *name, enum number_big *big);

#endif
