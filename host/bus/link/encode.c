/* A message as a client writes it. */
#include "bus/link/encode.h"

#include <string.h>

#include "bus/link/link_frame.h"
#include "bus/link/transport.h"
#include "bus/wire.h"

#define LINE_END "\r\n"
#define LENGTH(text) (sizeof(text) - 1)

/* The words of the line but for its subjects: HPUB, two lengths, spaces; and two line ends. */
#define WORDS_MOST 64

static char *put(char *out, const char *text, size_t len)
{
    memcpy(out, text, len);
    return out + len;
}

char *encode_number(char *out, uint64_t number)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *out++ = digits[--count];
    return out;
}

void encode_measure(const struct link_frame *frame, struct encoded *encoded)
{
    encoded->len = frame->len;
    encoded->subject_len = strlen(frame->subject);
    encoded->reply_len = frame->reply ? strlen(frame->reply) : 0;
    encoded->headers_at = 0;
    encoded->headers_len = frame->headers ? headers_wire_size(frame->headers) : 0;
    encoded->size = WORDS_MOST + encoded->subject_len + encoded->reply_len + encoded->headers_len +
                    encoded->len;
}

void encode(const struct link_frame *frame, struct encoded *encoded, char *out)
{
    size_t headers = encoded->headers_len;
    char *at = headers ? put(out, "HPUB ", 5) : put(out, "PUB ", 4);
    at = put(at, frame->subject, encoded->subject_len);
    *at++ = ' ';
    if (encoded->reply_len) {
        at = put(at, frame->reply, encoded->reply_len);
        *at++ = ' ';
    }
    if (headers) {
        at = encode_number(at, headers);
        *at++ = ' ';
    }
    at = encode_number(at, headers + encoded->len);
    at = put(at, LINE_END, LENGTH(LINE_END));
    encoded->headers_at = (size_t)(at - out);
    if (headers)
        at = headers_write(frame->headers, at);
    if (encoded->len)
        at = put(at, frame->data, encoded->len);
    at = put(at, LINE_END, LENGTH(LINE_END));
    encoded->size = (size_t)(at - out);
}

struct transport_message encoded_message(const struct encoded *encoded, const char *wire)
{
    const char *subject = wire + (encoded->headers_len ? LENGTH("HPUB ") : LENGTH("PUB "));
    const char *block = wire + encoded->headers_at;
    return (struct transport_message){
        .wire = {wire, encoded->size},
        .subject = {subject, encoded->subject_len},
        .reply = {encoded->reply_len ? subject + encoded->subject_len + 1 : NULL,
                  encoded->reply_len},
        .headers = {block, encoded->headers_len},
        .data = {block + encoded->headers_len, encoded->len},
    };
}

const char *transport_text(struct span subject, char *buf)
{
    if (!subject.at)
        return NULL;
    memcpy(buf, subject.at, subject.len);
    buf[subject.len] = '\0';
    return buf;
}
