/* encode - a message as a client writes it to a server: PUB, or HPUB when it has headers.
 *
 *   encode_measure ─▶ the lengths, and how much room it takes ─▶ encode ─▶ the bytes, and where
 *                                                                        its parts lie in them
 *
 * Whoever sends encodes, once (link_send); what writes it to a socket copies bytes. Pure; any
 * thread. */
#ifndef MOONBUS_BUS_LINK_ENCODE_H
#define MOONBUS_BUS_LINK_ENCODE_H

#include <stddef.h>
#include <stdint.h>

struct link_frame;
struct transport_message;

struct encoded {
    size_t size;        /* of all of it; as encode_measure says, or a few bytes less */
    size_t subject_len; /* the second word */
    size_t reply_len;   /* the third; 0: there is none */
    size_t headers_at;  /* where the block begins, as headers_write has it */
    size_t headers_len; /* 0: there is none, and it is a PUB */
    size_t len;         /* of the data, which follow the block */
};

/* Fills in the lengths. */
void encode_measure(const struct link_frame *frame, struct encoded *encoded);

/* Writes it to out, which has room for `size` bytes; then `size` is what it took. */
void encode(const struct link_frame *frame, struct encoded *encoded, char *out);

/* Writes the digits of a number; returns what is behind them. */
char *encode_number(char *out, uint64_t number);

/* What a transport is given of it. */
struct transport_message encoded_message(const struct encoded *encoded, const char *wire);

#endif
