/* jsfield - the settings of streams and consumers, as NATS names them: one table, which comparing
 * (jsapi_compare), the remedy for a difference (jsapi_remedy) and the settings of a durable
 * (consumer_config) go by. A field that is not in it is compared as it stands, and passed on.
 *
 * Pure; any thread. */
#ifndef MOONBUS_BUS_REQUEST_JSFIELD_H
#define MOONBUS_BUS_REQUEST_JSFIELD_H

#include <stdbool.h>
#include <stddef.h>

enum jsfield_of { JSFIELD_STREAM = 1, JSFIELD_CONSUMER = 2, JSFIELD_BOTH = 3 };

/* What a value is: how it is compared, and shown. */
enum jsfield_kind {
    JSFIELD_PLAIN,
    JSFIELD_DURATION, /* nanoseconds, or a list of them */
    JSFIELD_LIMIT,    /* 0 states "no limit", which a server writes as -1 */
    JSFIELD_COUNT,    /* 0 states "as usual", which a server writes as 1 */
    JSFIELD_METHOD,   /* "none", "default" state what a server that does not know the field does */
    JSFIELD_SET,      /* a list whose order means nothing */
};

/* How `nats stream edit` and `nats consumer edit` write it. */
enum jsfield_form {
    JSFIELD_VALUE, /* --max-msgs=5; a duration as people write it; a list with commas */
    JSFIELD_FLAG,  /* --deny-purge, --no-deny-purge */
    JSFIELD_UNFLAG /* the other way round: no_ack is --no-ack */
};

struct jsfield {
    const char *name;
    enum jsfield_of of;
    enum jsfield_kind kind;
    const char *option; /* of the nats CLI; NULL: it has none */
    enum jsfield_form form;
    const char *since;   /* the first nats-server that knows it, "2.10"; NULL: 2.9 does */
    const char *instead; /* of a consumer: a script does not state it, and what to use; or NULL */
    bool fixed;          /* no server changes it once the stream or consumer is there */
};

/* NULL: it is not in the table. */
const struct jsfield *jsfield_find(const char *name);

/* The field that a difference is about, as jsapi_compare says it ("max_age: here 1h, ..."). */
const struct jsfield *jsfield_of_difference(const char *difference);

/* No server changes that field. */
bool jsfield_is_fixed(const char *difference);

/* " (nats-server 2.10 and newer know it)" for that field; "" where 2.9 does, or nobody knows.
 * Returns buf. */
char *jsfield_since(const char *difference, char *buf, size_t size);

/* The same for the field that a server of 2.12 and newer refuses: 'unknown field "allow_batched"'.
 * Returns buf. */
char *jsfield_refused(const char *message, char *buf, size_t size);

/* All of them, one after the other; NULL at the end. */
const struct jsfield *jsfield_at(size_t index);

#endif
