/* header_block - the header block of a NATS message, as it came over the wire (ADR-4):
 *
 *   NATS/1.0[ <code>[ <description>]]CRLF   the version line; a status has a code
 *   name: valueCRLF                         fields, several of one name allowed
 *   CRLF
 *
 * It is read where it lies: nothing is copied, nothing is written, nothing is read past its end.
 * Names and values are any bytes; a value may hold a CR, an LF or a NUL, and only both CR and LF
 * end it. Whoever may publish wrote it, so nothing of it is trusted: a line without a colon or
 * without a name is passed over, so is one that begins with a space (nobody's client folds lines
 * any more), and an empty line within ends nothing, for servers read on behind it, too.
 *
 * Pure functions, any thread; any number of threads may read one block at a time. */
#ifndef MOONBUS_BUS_HEADER_BLOCK_H
#define MOONBUS_BUS_HEADER_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes of somebody else's; no NUL follows them. */
struct span {
    const char *at; /* NULL: there is nothing at all; "" has a place, and no length */
    size_t len;
};

/* A text, without its NUL. */
static inline struct span span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

struct header_block {
    const char *at; /* borrowed, unless it is `owned`; NULL when there is none */
    size_t len;
    char *owned; /* NULL, or what header_block_clear frees */
};

struct header_field {
    struct span name, value; /* the value without the spaces and tabs around it */
};

/* Does a header block begin here? Its version line has to be whole, and one line. */
bool header_block_is(const char *at, size_t len);

/* Walks: *position starts at 0; false at the end. */
bool header_block_next(const struct header_block *block, size_t *position,
                       struct header_field *field);

/* The value of the first field of that name, in any case. {NULL, 0}: there is none. */
struct span header_block_find(const struct header_block *block, const char *name);

/* The same for the last one: what was added behind all that a publisher wrote. */
struct span header_block_last(const struct header_block *block, const char *name);

/* The three digits of the version line, or 0; the text behind them goes to *description, which may
 * be NULL. */
int header_block_status(const struct header_block *block, struct span *description);

/* The same name, in any case? */
bool span_is(struct span span, const char *name);
bool span_same(struct span a, struct span b);

/* Does it begin so, in any case? */
bool span_begins(struct span span, const char *prefix);
/* Are these the bytes of the text? */
bool span_equals(struct span span, const char *text);

/* A whole number, of digits alone; ULLONG_MAX where it is more. */
bool span_number(struct span span, unsigned long long *out);

/* Copies what fits, with a NUL behind it. Returns out. */
char *span_text(struct span span, char *out, size_t size);

/* Frees what is owned; there is no block then. */
void header_block_clear(struct header_block *block);

#endif
