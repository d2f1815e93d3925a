/* fuzz - functions that are fed with any bytes: one for each kind of thing that comes from outside.
 *
 *   libFuzzer (fuzz/run) ─┐
 *                         ├─▶ fuzz_run ─▶ target ─▶ the unit, and what must be true of its answer
 *   replay (make test) ───┘
 *
 * A target is a function (data, size). It fails by ending the process: by MUST, or by what a
 * sanitizer finds. Most inputs begin with a letter that says what the rest is, so that those in
 * fuzz/corpus can be read and written by people. One thread. */
#ifndef MOONBUS_FUZZ_FUZZ_H
#define MOONBUS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What has to be true of every input; NDEBUG does not take it away. */
#define MUST(condition) ((condition) ? (void)0 : fuzz_failed(#condition, __FILE__, __LINE__))

void fuzz_failed(const char *what, const char *file, int line) __attribute__((noreturn));

struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t size);
};

extern const struct fuzz_target fuzz_targets[];
extern const size_t fuzz_target_count;

/* By its name; NULL. */
const struct fuzz_target *fuzz_find(const char *name);

/* --- what is left of an input --- */

struct input {
    const uint8_t *at, *end;
};

size_t input_left(const struct input *input);
/* 0 at the end. */
uint8_t input_byte(struct input *input);
/* Eight bytes, or what is left, as they lie in memory. */
uint64_t input_number(struct input *input);
/* The next line as text; the last one is all that is left. The caller frees. Sets *len, if not
 * NULL: the text may hold NULs. */
char *input_line(struct input *input, size_t *len);
char *input_rest(struct input *input, size_t *len);

/* err tells what is wrong in one line, and its code is that which was returned. */
void fuzz_check_err(const struct err *err, int code);

/* --- the targets --- */

void fuzz_times(const uint8_t *data, size_t size);
void fuzz_value(const uint8_t *data, size_t size);
void fuzz_text(const uint8_t *data, size_t size);
void fuzz_wire(const uint8_t *data, size_t size);
void fuzz_headers(const uint8_t *data, size_t size);
void fuzz_parse(const uint8_t *data, size_t size);
void fuzz_http(const uint8_t *data, size_t size);
void fuzz_trace(const uint8_t *data, size_t size);
void fuzz_jsapi(const uint8_t *data, size_t size);
void fuzz_letter(const uint8_t *data, size_t size);
void fuzz_pull(const uint8_t *data, size_t size);
void fuzz_change(const uint8_t *data, size_t size);
void fuzz_json(const uint8_t *data, size_t size);
void fuzz_config(const uint8_t *data, size_t size);
void fuzz_cli(const uint8_t *data, size_t size);
void fuzz_context(const uint8_t *data, size_t size);

#endif
