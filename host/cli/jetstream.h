/* jetstream - JetStream for commands that live for a moment, over the plain connection of
 * cli/connect.h: each call blocks, and is tried again as the host itself would.
 *
 * One thread. SIGINT and SIGTERM are looked for between two tries: what has begun is finished, and
 * a second one ends the process at once. */
#ifndef MOONBUS_CLI_JETSTREAM_H
#define MOONBUS_CLI_JETSTREAM_H

#include <cjson/cJSON.h>

#include "bus/jsapi.h"
#include "bus/letter.h"
#include "bus/wire.h"
#include "cli/connect.h"

struct jetstream {
    const struct client *client; /* borrowed; opened as lasting */
    struct jsapi *jsapi;         /* owned; for the subjects of the API */
    bool answered;               /* at least once: then silence can pass */
    bool impatient;              /* waiting was in vain: one try each, until something goes well */
    bool stopped;                /* by a signal */
};

/* CLI_OK, or CLI_FAILED, said. jetstream_close in any case. */
int jetstream_open(struct jetstream *js, const struct client *client);
void jetstream_close(struct jetstream *js);

/* Has a signal come that ends the command? */
bool jetstream_stopped(struct jetstream *js);

/* Calls an operation ("STREAM.INFO.ORDERS"). The reply (cJSON_Delete it), or NULL with err;
 * ERR_NOT_FOUND for 404. api_code, JetStream's err_code, may be NULL. */
cJSON *jetstream_call(struct jetstream *js, const char *operation, const cJSON *request,
                      int *api_code, struct err *err);

/* Reads the message of this sequence; or, with next, the first one from there on. stored_clear in
 * any case. ERR_NOT_FOUND: there is none. */
int jetstream_read(struct jetstream *js, const char *stream, uint64_t sequence, bool next,
                   struct stored *out, struct err *err);

/* 1 and the stream that takes the subject; 0: none does; negative: err. */
int jetstream_stream_of(struct jetstream *js, const char *subject, char *stream, size_t size,
                        struct err *err);

struct jetstream_message {
    const char *subject;
    const struct headers *headers; /* with its Nats-Msg-Id, which is that of every try */
    const char *data;
    size_t len;
};

/* Publishes and waits until it is stored. *tries: how often it was sent. */
int jetstream_publish(struct jetstream *js, const struct jetstream_message *message,
                      struct receipt *receipt, unsigned *tries, struct err *err);

#endif
