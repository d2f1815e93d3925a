#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct fuzz_target fuzz_targets[] = {
    {"value", fuzz_value},     {"text", fuzz_text},       {"wire", fuzz_wire},
    {"headers", fuzz_headers}, {"jsapi", fuzz_jsapi},     {"letter", fuzz_letter},
    {"pull", fuzz_pull},       {"change", fuzz_change},   {"json", fuzz_json},
    {"config", fuzz_config},   {"cli", fuzz_cli},         {"http", fuzz_http},
    {"trace", fuzz_trace},     {"context", fuzz_context}, {"times", fuzz_times},
    {"parse", fuzz_parse},
};

const size_t fuzz_target_count = sizeof fuzz_targets / sizeof *fuzz_targets;

const struct fuzz_target *fuzz_find(const char *name)
{
    for (size_t i = 0; i < fuzz_target_count; i++) {
        if (strcmp(fuzz_targets[i].name, name) == 0)
            return &fuzz_targets[i];
    }
    return NULL;
}

void fuzz_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: must be true: %s\n", file, line, what);
    abort();
}

void fuzz_check_err(const struct err *err, int code)
{
    MUST(code < 0 && (int)err->code == code);
    MUST(strcmp(err_name(err->code), "unknown") != 0);
    MUST(err->message[0] != '\0');
}

size_t input_left(const struct input *input)
{
    return (size_t)(input->end - input->at);
}

uint8_t input_byte(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

uint64_t input_number(struct input *input)
{
    uint64_t number = 0;
    size_t len = input_left(input) < sizeof number ? input_left(input) : sizeof number;
    if (len)
        memcpy(&number, input->at, len);
    input->at += len;
    return number;
}

/* In a block of its own size, so that AddressSanitizer sees who reads past its end. */
static char *copy(const uint8_t *bytes, size_t len)
{
    char *text = malloc(len + 1);
    MUST(text != NULL);
    if (len)
        memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

char *input_line(struct input *input, size_t *len)
{
    size_t left = input_left(input);
    const uint8_t *end = left ? memchr(input->at, '\n', left) : NULL;
    size_t size = end ? (size_t)(end - input->at) : left;
    char *text = copy(input->at, size);
    if (len)
        *len = size;
    input->at += size + (end != NULL);
    return text;
}

char *input_rest(struct input *input, size_t *len)
{
    size_t left = input_left(input);
    char *text = copy(input->at, left);
    if (len)
        *len = left;
    input->at = input->end;
    return text;
}
