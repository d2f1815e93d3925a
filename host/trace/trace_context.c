/* trace_context - traceparent read and written, and ids. */
#include "trace/trace_context.h"

#include <string.h>

#include "base/random.h"

/* Where the parts of a traceparent lie. */
enum { AT_TRACE_ID = 3, AT_SPAN_ID = 36, AT_FLAGS = 53, LENGTH = 55 };

/* Lower case only, as the specification has it. -1: it is no digit. */
static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *text, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++)
        any |= bytes[i];
    return any == 0;
}

bool trace_context_parse(const char *text, size_t len, struct trace_context *out)
{
    struct trace_context read = {0};
    uint8_t version, flags;
    if (len < LENGTH || !read_hex(text, &version, 1) || version == 0xff)
        return false;
    if (len > LENGTH && (version == 0 || text[LENGTH] != '-'))
        return false;
    if (text[AT_TRACE_ID - 1] != '-' || text[AT_SPAN_ID - 1] != '-' || text[AT_FLAGS - 1] != '-')
        return false;
    if (!read_hex(text + AT_TRACE_ID, read.trace_id, TRACE_ID_BYTES) ||
        !read_hex(text + AT_SPAN_ID, read.span_id, TRACE_SPAN_ID_BYTES) ||
        !read_hex(text + AT_FLAGS, &flags, 1))
        return false;
    if (is_zero(read.trace_id, TRACE_ID_BYTES) || is_zero(read.span_id, TRACE_SPAN_ID_BYTES))
        return false;
    read.flags = flags & (TRACE_SAMPLED | TRACE_RANDOM);
    *out = read;
    return true;
}

char *trace_hex(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

char *trace_context_format(const struct trace_context *context, char *out)
{
    memcpy(out, "00-", 3);
    trace_hex(context->trace_id, TRACE_ID_BYTES, out + AT_TRACE_ID);
    out[AT_SPAN_ID - 1] = '-';
    trace_hex(context->span_id, TRACE_SPAN_ID_BYTES, out + AT_SPAN_ID);
    out[AT_FLAGS - 1] = '-';
    return trace_hex(&context->flags, 1, out + AT_FLAGS) - AT_FLAGS;
}

static void make_id(uint8_t *id, size_t len)
{
    do {
        for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
            uint64_t number = random_number();
            memcpy(id + i, &number, sizeof number);
        }
    } while (is_zero(id, len));
}

void trace_context_begin(struct trace_context *out)
{
    make_id(out->trace_id, TRACE_ID_BYTES);
    make_id(out->span_id, TRACE_SPAN_ID_BYTES);
    out->flags = TRACE_RANDOM;
}

void trace_context_child(const struct trace_context *parent, struct trace_context *out)
{
    *out = *parent;
    make_id(out->span_id, TRACE_SPAN_ID_BYTES);
}
