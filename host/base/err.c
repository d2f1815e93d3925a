/* One table of the codes, and sentences that are cut where a character ends. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Through a buffer of its own, because an argument may be the very message that is replaced. */
static void store(struct err *err, const char *text, int wanted)
{
    size_t len = strlen(text);
    if (wanted >= 0 && (size_t)wanted > len)
        len = utf8_whole(text, len);
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

/* One row for each code: err.h says what they mean. */
static const struct {
    const char *name;
    bool passes; /* who waits may get what he wants */
} codes[] = {
    [ERR_NONE] = {"none", false},
    [-ERR_TIMEOUT] = {"timeout", true},
    [-ERR_NO_RESPONDERS] = {"no_responders", true},
    [-ERR_NO_STREAM] = {"no_stream", false},
    [-ERR_DISCONNECTED] = {"disconnected", true},
    [-ERR_TOO_LARGE] = {"too_large", false},
    [-ERR_PERMISSION] = {"permission", false},
    [-ERR_SETTLED] = {"settled", false},
    [-ERR_BAD_PAYLOAD] = {"bad_payload", false},
    [-ERR_WRONG_SEQUENCE] = {"wrong_sequence", false},
    [-ERR_SERVICE] = {"service_error", false},
    [-ERR_API] = {"api_error", false},
    [-ERR_CANCELLED] = {"cancelled", false},
    [-ERR_FULL] = {"full", true},
    [-ERR_INVALID] = {"invalid", false},
    [-ERR_LOST] = {"lease_lost", false},
    [-ERR_CLOSED] = {"closed", false},
    [-ERR_HANDLER] = {"handler_error", false},
    [-ERR_MEMORY] = {"memory", false},
    [-ERR_NOT_FOUND] = {"not_found", false},
    [-ERR_MISMATCH] = {"mismatch", false},
    [-ERR_SYSTEM] = {"system", false},
    [-ERR_CPU] = {"cpu", false},
    [-ERR_OFFLOAD] = {"offload_error", false},
    [-ERR_TAKEN] = {"taken", false},
    [-ERR_UNAVAILABLE] = {"unavailable", true},
    [-ERR_NO_ACK] = {"no_ack", false},
    [-ERR_DNS] = {"dns", false},
    [-ERR_REFUSED] = {"refused", false},
    [-ERR_TLS] = {"tls", false},
    [-ERR_PROTOCOL] = {"protocol", false},
    [-ERR_UNSUPPORTED] = {"unsupported", false},
    [-ERR_EXISTS] = {"exists", false},
    [-ERR_CORRUPT] = {"corrupt", false},
};

_Static_assert(sizeof codes / sizeof *codes == 1 - ERR_LAST,
               "each code has a row, ERR_LAST is the last");

static bool is_code(int code)
{
    return code <= 0 && code >= ERR_LAST;
}

bool err_passes(int code)
{
    return is_code(code) && codes[-code].passes;
}

const char *err_name(enum err_code code)
{
    return is_code((int)code) ? codes[-(int)code].name : "unknown";
}

enum err_code err_named(const char *name)
{
    int code = ERR_LAST;
    while (code < 0 && strcmp(codes[-code].name, name) != 0)
        code++;
    return (enum err_code)code;
}
