/* err - what went wrong, for a program (a stable code) and for a person (a sentence).
 *
 * Functions that can fail return 0 or one of the negative codes below and fill the
 * `struct err` that their caller handed in (NULL is allowed: the caller wants no sentence).
 * A code is part of the public contract: Lua sees err_name(code) as `err.code`.
 *
 * Plain values, no allocation; any thread. */
#ifndef MOONBUS_BASE_ERR_H
#define MOONBUS_BASE_ERR_H

#include <stdbool.h>

enum err_code {
    ERR_NONE = 0,
    ERR_TIMEOUT = -1,        /* "timeout": no answer in time */
    ERR_NO_RESPONDERS = -2,  /* "no_responders": nobody serves the subject */
    ERR_NO_STREAM = -3,      /* "no_stream": no stream takes the subject */
    ERR_DISCONNECTED = -4,   /* "disconnected": no connection, and the buffer is full */
    ERR_TOO_LARGE = -5,      /* "too_large": above max_payload, or `max` of an answer */
    ERR_PERMISSION = -6,     /* "permission": the server refuses the subject to this user */
    ERR_SETTLED = -7,        /* "settled": the message has had its verdict */
    ERR_BAD_PAYLOAD = -8,    /* "bad_payload": not JSON, or not what the schema wants */
    ERR_WRONG_SEQUENCE = -9, /* "wrong_sequence": an `expect` that was not met */
    ERR_SERVICE = -10,       /* "service_error": the responder answered with an error */
    ERR_API = -11,           /* "api_error": JetStream's API refused; the sentence has its words */
    ERR_CANCELLED = -12,     /* "cancelled": the handler was told to end */
    ERR_FULL = -13,          /* "full": a bound of the host is reached */
    ERR_INVALID = -14,       /* "invalid": a value that is not allowed where it stands */
    ERR_LOST = -15,          /* "lease_lost": the server gave the message to someone else */
    ERR_CLOSED = -16,        /* "closed": the host is stopping; a connection ended too early */
    ERR_HANDLER = -17,       /* "handler_error": the handler raised or returned an error */
    ERR_MEMORY = -18,        /* "memory": a limit on memory was reached */
    ERR_NOT_FOUND = -19,     /* "not_found": no such stream, consumer, message or file */
    ERR_MISMATCH = -20,      /* "mismatch": the server has it with other settings */
    ERR_SYSTEM = -21,        /* "system": the operating system refused */
    ERR_CPU = -22,           /* "cpu": one resume ran for longer than limits.cpu */
    ERR_OFFLOAD = -23,       /* "offload_error": an offloaded function raised an error */
    ERR_TAKEN = -24,         /* "taken": another script of this process has it */
    ERR_UNAVAILABLE = -25,   /* "unavailable": JetStream has no leader or no quorum, for now */
    ERR_NO_ACK = -26,        /* "no_ack": sent to a stream that confirms nothing */
    ERR_DNS = -27,           /* "dns": no such host, or nobody who knows it answers */
    ERR_REFUSED = -28,       /* "refused": nobody listens there, or no way leads there */
    ERR_TLS = -29,           /* "tls": its certificate is not accepted, or no common protocol */
    ERR_PROTOCOL = -30,      /* "protocol": an answer is no HTTP, no JSON, or leads nowhere */
    ERR_UNSUPPORTED = -31,   /* "unsupported": the server is too old for it */
    ERR_EXISTS = -32,        /* "exists": what was to be created is there */
    ERR_CORRUPT = -33,       /* "corrupt": an object is not what was stored, by its digest */
    ERR_LAST = ERR_CORRUPT,
};

struct err {
    enum err_code code;
    char message[1000];
};

/* Fills err (if not NULL) from a printf format; a longer sentence is cut at a UTF-8 boundary.
 * Returns code, so that `return err_set(...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence that err has. Returns err's code. */
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* May it pass by itself? The server is away, or not ready: trying again may work. */
bool err_passes(int code);

/* The public name of a code, a static string: "timeout" for ERR_TIMEOUT. Never NULL. */
const char *err_name(enum err_code code);

/* The code of that public name; ERR_NONE for none of ours. */
enum err_code err_named(const char *name);

#endif
