#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The length of text without a UTF-8 sequence that a cut has left incomplete at its end. */
static size_t whole_utf8(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return len;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return len - start + 1 < wanted ? start - 1 : len;
}

/* Through a buffer of its own, because an argument may be the very message that is replaced. */
static void store(struct err *err, const char *text, int wanted)
{
    size_t len = strlen(text);
    if (wanted >= 0 && (size_t)wanted > len)
        len = whole_utf8(text, len);
    memcpy(err->message, text, len);
    err->message[len] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    if (!err)
        return code;
    char text[sizeof err->message] = "";
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    err->code = code;
    store(err, text, wanted);
    return code;
}

int err_prefix(struct err *err, const char *format, ...)
{
    if (!err)
        return ERR_NONE;
    char text[sizeof err->message] = "";
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (wanted >= 0 && (size_t)wanted < sizeof text)
        wanted += snprintf(text + wanted, sizeof text - (size_t)wanted, ": %s", err->message);
    store(err, text, wanted);
    return err->code;
}

const char *err_name(enum err_code code)
{
    switch (code) {
    case ERR_NONE:
        return "none";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_NO_RESPONDERS:
        return "no_responders";
    case ERR_NO_STREAM:
        return "no_stream";
    case ERR_DISCONNECTED:
        return "disconnected";
    case ERR_TOO_LARGE:
        return "too_large";
    case ERR_PERMISSION:
        return "permission";
    case ERR_SETTLED:
        return "settled";
    case ERR_BAD_PAYLOAD:
        return "bad_payload";
    case ERR_WRONG_SEQUENCE:
        return "wrong_sequence";
    case ERR_SERVICE:
        return "service_error";
    case ERR_API:
        return "api_error";
    case ERR_CANCELLED:
        return "cancelled";
    case ERR_FULL:
        return "full";
    case ERR_INVALID:
        return "invalid";
    case ERR_LOST:
        return "lease_lost";
    case ERR_CLOSED:
        return "closed";
    case ERR_HANDLER:
        return "handler_error";
    case ERR_MEMORY:
        return "memory";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_MISMATCH:
        return "mismatch";
    case ERR_SYSTEM:
        return "system";
    case ERR_CPU:
        return "cpu";
    case ERR_OFFLOAD:
        return "offload_error";
    case ERR_TAKEN:
        return "taken";
    }
    return "unknown";
}
