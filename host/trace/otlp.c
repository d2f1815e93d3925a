/* otlp - the JSON of a request, and what its answer says. */
#include "trace/otlp.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* Flags of a span or link: whether it is known where its parent is, and that it is elsewhere. */
#define HAS_REMOTE 0x100u
#define IS_REMOTE 0x200u

/* What separates the members of a list. */
static void put_comma(struct text *out, bool *first)
{
    if (!*first)
        text_puts(out, ",");
    *first = false;
}

static void put_string(struct text *out, const char *string)
{
    text_json_string(out, string, strlen(string));
}

static void put_text_attribute(struct text *out, bool *first, const char *key, size_t key_len,
                               const char *value)
{
    put_comma(out, first);
    text_puts(out, "{\"key\":");
    text_json_string(out, key, key_len);
    text_puts(out, ",\"value\":{\"stringValue\":");
    put_string(out, value);
    text_puts(out, "}}");
}

static void put_number_attribute(struct text *out, bool *first, const char *key, int64_t number)
{
    put_comma(out, first);
    text_printf(out, "{\"key\":\"%s\",\"value\":{\"intValue\":\"%" PRId64 "\"}}", key, number);
}

/* --- the resource --- */

static bool is_stated(const struct otlp_resource *resource, const char *key)
{
    size_t len = strlen(key);
    for (int i = 0; i < resource->attribute_count; i++) {
        if (strncmp(resource->attributes[i], key, len) == 0 && resource->attributes[i][len] == '=')
            return true;
    }
    return false;
}

static void put_own(struct text *out, bool *first, const struct otlp_resource *resource,
                    const char *key, const char *value)
{
    if (value && !is_stated(resource, key))
        put_text_attribute(out, first, key, strlen(key), value);
}

static void put_resource(struct text *out, const struct otlp_resource *resource)
{
    bool first = true;
    text_puts(out, "\"resource\":{\"attributes\":[");
    for (int i = 0; i < resource->attribute_count; i++) {
        const char *key = resource->attributes[i], *equals = strchr(key, '=');
        bool is_service = strncmp(key, "service.name=", sizeof "service.name=" - 1) == 0;
        if (equals && !(is_service && resource->service))
            put_text_attribute(out, &first, key, (size_t)(equals - key), equals + 1);
    }
    if (resource->service)
        put_text_attribute(out, &first, "service.name", sizeof "service.name" - 1,
                           resource->service);
    put_own(out, &first, resource, "service.instance.id", resource->instance);
    put_own(out, &first, resource, "host.name", resource->host);
    if (resource->pid && !is_stated(resource, "process.pid"))
        put_number_attribute(out, &first, "process.pid", resource->pid);
    text_puts(out, "]}");
}

/* --- a span --- */

static void put_id(struct text *out, const char *name, const uint8_t *id, size_t len)
{
    char hex[2 * TRACE_ID_BYTES + 1];
    text_printf(out, "\"%s\":\"%s\"", name, trace_hex(id, len, hex));
}

static void put_ids(struct text *out, const struct trace_context *context)
{
    put_id(out, "traceId", context->trace_id, TRACE_ID_BYTES);
    text_puts(out, ",");
    put_id(out, "spanId", context->span_id, TRACE_SPAN_ID_BYTES);
}

static bool has_parent(const struct trace_span *span)
{
    static const struct trace_context none;
    return memcmp(span->parent.span_id, none.span_id, TRACE_SPAN_ID_BYTES) != 0;
}

static void put_attributes(struct text *out, const struct otlp_resource *resource,
                           const struct trace_span *span)
{
    bool first = true;
    text_puts(out, ",\"attributes\":[");
    for (unsigned i = 0; i < span->attribute_count; i++) {
        const struct trace_attribute *attribute = &span->attributes[i];
        if (attribute->text)
            put_text_attribute(out, &first, attribute->key, strlen(attribute->key),
                               attribute->text);
        else
            put_number_attribute(out, &first, attribute->key, attribute->number);
    }
    if (resource->server && span->kind != TRACE_INTERNAL) {
        put_text_attribute(out, &first, "server.address", sizeof "server.address" - 1,
                           resource->server);
        put_number_attribute(out, &first, "server.port", resource->port);
    }
    text_puts(out, "]");
}

static void put_links(struct text *out, const struct trace_span *span)
{
    bool first = true;
    if (span->link_count == 0)
        return;
    text_puts(out, ",\"links\":[");
    for (unsigned i = 0; i < span->link_count; i++) {
        put_comma(out, &first);
        text_puts(out, "{");
        put_ids(out, &span->links[i]);
        text_printf(out, ",\"flags\":%u}", span->links[i].flags | HAS_REMOTE | IS_REMOTE);
    }
    text_puts(out, "]");
    if (span->links_left_out)
        text_printf(out, ",\"droppedLinksCount\":%u", span->links_left_out);
}

static void put_span(struct text *out, const struct otlp_resource *resource,
                     const struct trace_span *span)
{
    text_puts(out, "{");
    put_ids(out, &span->context);
    if (*span->state) {
        text_puts(out, ",\"traceState\":");
        put_string(out, span->state);
    }
    if (has_parent(span)) {
        text_puts(out, ",");
        put_id(out, "parentSpanId", span->parent.span_id, TRACE_SPAN_ID_BYTES);
    }
    text_printf(out, ",\"flags\":%u,\"name\":",
                span->context.flags | HAS_REMOTE | (span->remote ? IS_REMOTE : 0u));
    put_string(out, span->name);
    text_printf(out,
                ",\"kind\":%d,\"startTimeUnixNano\":\"%" PRId64 "\",\"endTimeUnixNano\":\"%" PRId64
                "\"",
                (int)span->kind, span->start_ns, span->end_ns);
    put_attributes(out, resource, span);
    put_links(out, span);
    if (span->error) {
        text_puts(out, ",\"status\":{\"code\":2,\"message\":");
        put_string(out, span->error);
        text_puts(out, "}");
    }
    text_puts(out, "}");
}

void otlp_write(struct text *out, const struct otlp_resource *resource,
                const struct trace_span *spans)
{
    bool first = true;
    text_puts(out, "{\"resourceSpans\":[{");
    put_resource(out, resource);
    text_puts(out, ",\"scopeSpans\":[{\"scope\":{\"name\":\"moonbus\",\"version\":");
    put_string(out, resource->version ? resource->version : "");
    text_puts(out, "},\"spans\":[");
    for (; spans; spans = spans->next) {
        put_comma(out, &first);
        put_span(out, resource, spans);
    }
    text_puts(out, "]}]}]}");
}

/* --- the answer --- */

unsigned otlp_refused(const char *body, size_t len, char *why, size_t size)
{
    cJSON *answer = body ? cJSON_ParseWithLength(body, len) : NULL;
    const struct cJSON *partial = json_field(answer, "partialSuccess");
    /* As text, as 64-bit numbers are written; or as a number. */
    double refused = strtod(json_text_or(partial, "rejectedSpans", "0"), NULL);
    if (refused == 0)
        refused = json_number(partial, "rejectedSpans", 0);
    snprintf(why, size, "%s", json_text_or(partial, "errorMessage", ""));
    cJSON_Delete(answer);
    return refused >= 1 && refused < 1e9 ? (unsigned)refused : 0;
}
