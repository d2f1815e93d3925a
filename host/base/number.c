/* Digits of numbers: the shortest that read back as the same. */
#include "base/number.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t format_integer(int64_t number, char *buf)
{
    char digits[24];
    size_t count = 0, len = 0;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do
        digits[count++] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0)
        buf[len++] = '-';
    while (count > 0)
        buf[len++] = digits[--count];
    buf[len] = '\0';
    return len;
}

/* The process's locale may have another decimal point. */
static void mend_point(char *text)
{
    size_t len = strspn(text, "-0123456789");
    if (text[len] && text[len] != 'e')
        text[len] = '.';
}

/* 15 digits are enough for most, and 17 for all. */
static size_t format_fraction(double number, char *buf)
{
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(buf, NUMBER_ROOM, "%.*g", digits, number);
        if (strtod(buf, NULL) == number)
            break;
    }
    mend_point(buf);
    return (size_t)len;
}

size_t number_format(double number, char *buf)
{
    if (fabs(number) <= NUMBER_EXACT && number == (double)(int64_t)number)
        return format_integer((int64_t)number, buf);
    if (isnan(number))
        return (size_t)snprintf(buf, NUMBER_ROOM, "nan");
    if (isinf(number))
        return (size_t)snprintf(buf, NUMBER_ROOM, number < 0 ? "-inf" : "inf");
    if (fabs(number) > NUMBER_EXACT) /* all of those are integral */
        return (size_t)snprintf(buf, NUMBER_ROOM, "%.0f", number);
    return format_fraction(number, buf);
}

char *number_show(double number, char *buf)
{
    if (isfinite(number) && fabs(number) < 1e21 && number == floor(number))
        snprintf(buf, NUMBER_SHOWN, "%.0f", number == 0 ? 0.0 : number);
    else
        snprintf(buf, NUMBER_SHOWN, "%.14g", isnan(number) ? NAN : number); /* without a sign */
    return buf;
}

static locale_t plain_locale; /* for the life of the process; 0: there was no memory for it */

static void make_locale(void)
{
    plain_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

double number_parse(const char *text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    return plain_locale ? strtod_l(text, NULL, plain_locale) : strtod(text, NULL);
}

bool number_big_named(const char *name, enum number_big *big)
{
    static const char *const names[] = {"error", "string", "number"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *big = (enum number_big)i;
            return true;
        }
    }
    return false;
}
