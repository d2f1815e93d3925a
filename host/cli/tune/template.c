/* Texts with {{...}} in them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "base/value.h"
#include "cli/tune/messages.h"

static void put_number(uint64_t n, struct text *out)
{
    text_printf(out, "%" PRIu64, n);
}

static void put_random(uint64_t n, struct text *out)
{
    (void)n;
    text_printf(out, "%" PRIu64, random_number() >> 33); /* 0 to 2^31 - 1 */
}

/* Version 4, RFC 9562. */
static void put_uuid(uint64_t n, struct text *out)
{
    uint64_t high = random_number(), low = random_number();
    (void)n;
    text_printf(out, "%08" PRIx64 "-%04" PRIx64 "-4%03" PRIx64 "-%04" PRIx64 "-%012" PRIx64,
                high >> 32, high >> 16 & 0xffff, high & 0xfff, (low >> 48 & 0x3fff) | 0x8000,
                low & 0xffffffffffff);
}

static void put_time(uint64_t n, struct text *out)
{
    char text[VALUE_TIME_BYTES];
    (void)n;
    text_puts(out, value_format_time(clock_wall_ns(), 3, text, sizeof text));
}

static const struct blank {
    const char *name; /* with its braces */
    void (*put)(uint64_t n, struct text *out);
} blanks[] = {
    {"{{n}}", put_number},
    {"{{random}}", put_random},
    {"{{uuid}}", put_uuid},
    {"{{time}}", put_time},
};

static const struct blank *blank_at(const char *text)
{
    for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++) {
        if (strncmp(text, blanks[i].name, strlen(blanks[i].name)) == 0)
            return &blanks[i];
    }
    return NULL;
}

/* JSON has "{{" and "}}" of its own: only a lone word between them is meant to be filled in. */
static size_t word_len(const char *text)
{
    size_t len = strspn(text + 2, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    return len > 0 && strncmp(text + 2 + len, "}}", 2) == 0 ? len + 4 : 0;
}

int tune_template_check(const char *text, struct err *err)
{
    for (const char *at = strstr(text, "{{"); at; at = strstr(at + 1, "{{")) {
        size_t len = word_len(at);
        if (len && !blank_at(at))
            return err_set(err, ERR_INVALID,
                           "%.*s: there are {{n}}, {{random}}, {{uuid}} and {{time}}", (int)len,
                           at);
    }
    return 0;
}

void tune_template_fill(const struct tune_template *template, uint64_t n, struct text *out)
{
    const char *from = template->text;
    for (const char *at = strstr(from, "{{"); at; at = strstr(at, "{{")) {
        const struct blank *blank = blank_at(at);
        if (!blank) {
            at++;
            continue;
        }
        text_add(out, from, (size_t)(at - from));
        blank->put(n, out);
        from = at += strlen(blank->name);
    }
    text_puts(out, from);
}
