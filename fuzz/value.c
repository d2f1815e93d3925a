/* Durations, sizes, subjects and names, as base/value.h reads them.
 *
 *   d TEXT    a duration             e 8 BYTES   a number of seconds
 *   f 8 BYTES nanoseconds to show    s TEXT      a size
 *   u TEXT    a subject              n TEXT      a name
 *   m PATTERN\nSUBJECT               does it match? */
#include "base/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static bool is_one_line(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    }
    return true;
}

static void check_refusal(const struct err *err, int code)
{
    fuzz_check_err(err, code);
    MUST(code == ERR_INVALID);
    MUST(is_one_line(err->message));
}

/* Exact, in the 32 bytes that its header promises, and in fewer without harm. */
static void check_shown(int64_t ns)
{
    char text[32], small[8];
    int64_t back = -1;
    MUST(value_format_duration(ns, text, sizeof text) == text);
    MUST(strlen(text) < sizeof text - 1);
    if (ns >= 0 && ns <= VALUE_DURATION_MAX_NS) {
        MUST(value_duration(text, strlen(text), &back, NULL) == 0);
        MUST(back == ns);
    }
    for (size_t size = 0; size <= sizeof small; size++)
        value_format_duration(ns, small, size);
}

static void duration(const char *text, size_t len)
{
    struct err err;
    int64_t ns = -1;
    int code = value_duration(text, len, &ns, &err);
    if (code) {
        check_refusal(&err, code);
        return;
    }
    MUST(ns >= 0 && ns <= VALUE_DURATION_MAX_NS);
    check_shown(ns);
}

static void seconds(uint64_t bits)
{
    struct err err;
    double number;
    int64_t ns = -1;
    memcpy(&number, &bits, sizeof number);
    int code = value_seconds(number, &ns, &err);
    if (code) {
        check_refusal(&err, code);
        return;
    }
    MUST(number >= 0);
    MUST(ns >= 0 && ns <= VALUE_DURATION_MAX_NS);
    check_shown(ns);
}

static void size_of_memory(const char *text, size_t len)
{
    struct err err;
    char plain[32];
    int64_t bytes = -1, back = -1;
    int code = value_size(text, len, &bytes, &err);
    if (code) {
        check_refusal(&err, code);
        return;
    }
    MUST(bytes >= 0);
    snprintf(plain, sizeof plain, "%lld", (long long)bytes);
    MUST(value_size(plain, strlen(plain), &back, NULL) == 0 && back == bytes);
}

static void subject(const char *text, size_t len)
{
    struct err err;
    int publish = subject_check(text, len, SUBJECT_PUBLISH, &err);
    if (publish)
        check_refusal(&err, publish);
    int subscribe = subject_check(text, len, SUBJECT_SUBSCRIBE, &err);
    if (subscribe) {
        check_refusal(&err, subscribe);
        /* What may be published to may be subscribed to, unless one would take it for a pattern. */
        MUST(publish != 0 || strpbrk(text, "*>"));
        return;
    }
    MUST(len > 0 && strlen(text) == len);
    MUST(text[0] != '.' && text[len - 1] != '.' && !strstr(text, ".."));
    MUST(is_one_line(text) && !strchr(text, ' '));
    MUST(subject_matches(text, text));
    MUST(subject_matches(">", text));
    if (publish == 0) {
        MUST(!subject_matches("*", text) == (strchr(text, '.') != NULL));
        MUST(strcmp(text, "*") != 0 && strcmp(text, ">") != 0);
        MUST(!strstr(text, ".*.") && !strstr(text, ".>"));
    }
}

static void name(const char *text, size_t len)
{
    struct err err;
    int code = name_check("stream name", text, len, &err);
    if (code) {
        check_refusal(&err, code);
        return;
    }
    MUST(len <= 255 && !strchr(text, '.'));
    MUST(subject_check(text, len, SUBJECT_PUBLISH, NULL) == 0);
}

/* The same as subject_matches, said in another way: token by token, from behind the last one. */
static bool matches(const char *pattern, const char *topic)
{
    const char *dot = strchr(pattern, '.'), *other = strchr(topic, '.');
    size_t len = dot ? (size_t)(dot - pattern) : strlen(pattern);
    size_t other_len = other ? (size_t)(other - topic) : strlen(topic);
    if (strcmp(pattern, ">") == 0)
        return true;
    if (!(len == 1 && *pattern == '*') && !(len == other_len && strncmp(pattern, topic, len) == 0))
        return false;
    if (!dot || !other)
        return !dot && !other;
    return matches(dot + 1, other + 1);
}

static void match(struct input *input)
{
    size_t pattern_len, len;
    char *pattern = input_line(input, &pattern_len), *topic = input_rest(input, &len);
    if (subject_check(pattern, pattern_len, SUBJECT_SUBSCRIBE, NULL) == 0 &&
        subject_check(topic, len, SUBJECT_SUBSCRIBE, NULL) == 0)
        MUST(subject_matches(pattern, topic) == matches(pattern, topic));
    free(pattern);
    free(topic);
}

void fuzz_value(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    if (kind == 'e' || kind == 'f' || kind == 'm') {
        if (kind == 'm')
            match(&input);
        else if (kind == 'e')
            seconds(input_number(&input));
        else
            check_shown((int64_t)input_number(&input));
        return;
    }
    size_t len;
    char *text = input_rest(&input, &len);
    if (kind == 'd')
        duration(text, len);
    else if (kind == 's')
        size_of_memory(text, len);
    else if (kind == 'u')
        subject(text, len);
    else if (kind == 'n')
        name(text, len);
    free(text);
}
