/* jetstream - JetStream for short-lived commands, over the plain connection of cli/connect.h. Each
 * call blocks, and is tried again as the host itself would.
 *
 * One thread. SIGINT and SIGTERM are looked for between two tries: the try under way is finished. A
 * second signal ends the process at once. */
#ifndef MOONBUS_CLI_JETSTREAM_H
#define MOONBUS_CLI_JETSTREAM_H

#include "bus/letter.h"
#include "bus/request/jsapi.h"
#include "bus/wire.h"
#include "cli/receive.h"

struct cJSON;

struct jetstream {
    struct client *client; /* borrowed; opened as lasting */
    struct jsapi *jsapi;   /* owned; for the subjects of the API */
    bool answered;         /* at least once: then silence can pass */
    bool impatient;        /* waiting was in vain: one try each, until one succeeds */
    uint64_t deadline_ns;  /* monotonic: no call waits for longer; 0: none */
    bool stopped;          /* by a signal */
};

/* CLI_OK, or CLI_FAILED, after it has said why. jetstream_close in any case. */
int jetstream_open(struct jetstream *js, struct client *client);
void jetstream_close(struct jetstream *js);

/* Has a signal come that is to end the command? */
bool jetstream_stopped(struct jetstream *js);

/* Waits for so long, or until a signal: then false. Another one ends the process. */
bool jetstream_pause(struct jetstream *js, int64_t ns);

/* Calls an operation ("STREAM.INFO.ORDERS"). The reply (cJSON_Delete it), or NULL with err;
 * ERR_NOT_FOUND for 404. api_code, JetStream's err_code, may be NULL. */
struct cJSON *jetstream_call(struct jetstream *js, const char *operation,
                             const struct cJSON *request, int *api_code, struct err *err);

/* Reads the message of this sequence; or, with a filter (">": any), the first one from there on
 * that the filter takes. stored_clear in any case. ERR_NOT_FOUND: there is none. */
int jetstream_read(struct jetstream *js, const char *stream, uint64_t sequence, const char *filter,
                   struct stored_message *out, struct err *err);

/* Reads the last message of a subject, which may have wildcards. As jetstream_read. */
int jetstream_last(struct jetstream *js, const char *stream, const char *subject,
                   struct stored_message *out, struct err *err);

/* 1 and the stream that takes the subject; 0: none does; negative: err. */
int jetstream_stream_of(struct jetstream *js, const char *subject, char *stream, size_t size,
                        struct err *err);

/* Says that there is no such stream, and which there are. CLI_FAILED. */
int jetstream_no_stream(struct jetstream *js, const char *stream);

/* Publishes and waits until it is stored. *tries: how often it was sent. Its headers must have a
 * Nats-Msg-Id, which every try uses. */
int jetstream_publish(struct jetstream *js, const struct outgoing *message, struct receipt *receipt,
                      unsigned *tries, struct err *err);

#endif
