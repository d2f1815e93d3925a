/* otlp - spans as OTLP writes them in JSON (opentelemetry-proto, ExportTraceServiceRequest): names
 * in lowerCamelCase, ids in hex, 64-bit numbers as text.
 *
 * Pure, any thread. */
#ifndef MOONBUS_TRACE_OTLP_H
#define MOONBUS_TRACE_OTLP_H

#include "base/text.h"
#include "trace/trace_span.h"

/* Whose spans they are. All borrowed; a NULL is left out. */
struct otlp_resource {
    const char *const *attributes; /* "name=value", what was configured; wins over the others */
    int attribute_count;
    const char *service, *instance, *host;
    const char *version; /* of moonbus */
    int pid;
    const char *server; /* of NATS, for spans that have to do with it; with its port */
    int port;
};

/* Adds the request's body. */
void otlp_write(struct text *out, const struct otlp_resource *resource,
                const struct trace_span *spans);

/* Reads the answer to it: how many spans were refused, and why (cut; "" for no reason). 0: none. */
unsigned otlp_refused(const char *body, size_t len, char *why, size_t size);

#endif
