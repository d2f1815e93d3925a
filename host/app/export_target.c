/* export_target - copied from the config, and judged. */
#include "app/export_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/config.h"
#include "app/version.h"
#include "base/random.h"
#include "http/http_url.h"

static char **copy_list(char *const *list, int count)
{
    char **copy = calloc((size_t)count + 1, sizeof *copy);
    for (int i = 0; copy && i < count; i++)
        copy[i] = strdup(list[i]);
    return copy;
}

static int count_list(char *const *list)
{
    int count = 0;
    while (list[count])
        count++;
    return count;
}

static void free_list(char **list)
{
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

/* "name=value" becomes a header. */
static void set_headers(struct export_target *target)
{
    static const struct http_header type = {"Content-Type", "application/json", 12, 16};
    target->headers[target->header_count++] = type;
    for (char **text = target->header_texts; *text; text++) {
        const char *equals = strchr(*text, '=');
        if (!equals)
            continue;
        target->headers[target->header_count++] =
            (struct http_header){*text, equals + 1, (size_t)(equals - *text), strlen(equals + 1)};
    }
}

/* As a random UUID. */
static void name_instance(char *out, size_t size)
{
    uint8_t id[16];
    char hex[33];
    random_bytes(id, sizeof id);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    trace_hex(id, sizeof id, hex);
    snprintf(out, size, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

/* Also judges it. */
static int show_url(const char *text, char *out, size_t size, struct err *err)
{
    struct http_url url;
    if (http_url_read(text, strlen(text), &url, err) != 0)
        return err_prefix(err, "telemetry");
    snprintf(out, size, "%s", url.shown);
    http_url_clear(&url);
    return 0;
}

static void fill_resource(struct export_target *target, const struct config *config)
{
    snprintf(target->service, sizeof target->service, "%s", config->telemetry.service);
    if (gethostname(target->host, sizeof target->host - 1) != 0)
        target->host[0] = '\0';
    name_instance(target->instance, sizeof target->instance);
    target->resource = (struct otlp_resource){
        .attributes = (const char *const *)target->attributes,
        .attribute_count = count_list(target->attributes),
        .service = target->service,
        .instance = target->instance,
        .host = *target->host ? target->host : NULL,
        .version = MOONBUS_VERSION,
        .pid = (int)getpid(),
    };
}

struct http_request export_target_request(const struct export_target *target)
{
    return (struct http_request){
        .method = "POST",
        .method_len = 4,
        .url = target->url,
        .url_len = strlen(target->url),
        .headers = target->headers,
        .header_count = (size_t)target->header_count,
        .timeout_ns = target->timeout_ns,
    };
}

static int check_target(const struct export_target *target, struct http *http, struct err *err)
{
    const struct http_request request = export_target_request(target);
    struct http_call *call = http_call_new(http, &request, err);
    if (!call)
        return err_prefix(err, "telemetry");
    http_call_release(call);
    return 0;
}

int export_target_set(struct export_target *target, const struct config *config, struct http *http,
                      struct err *err)
{
    target->url = strdup(config->telemetry.url);
    target->timeout_ns = config->telemetry.timeout_ns;
    target->header_texts = copy_list(config->telemetry.headers, config->telemetry.header_count);
    target->attributes = copy_list(config->telemetry.attributes, config->telemetry.attribute_count);
    target->headers = calloc((size_t)config->telemetry.header_count + 1, sizeof *target->headers);
    if (!target->url || !target->header_texts || !target->attributes || !target->headers)
        return err_set(err, ERR_MEMORY, "no memory for traces");
    set_headers(target);
    fill_resource(target, config);
    int code = show_url(target->url, target->shown, sizeof target->shown, err);
    return code ? code : check_target(target, http, err);
}

void export_target_clear(struct export_target *target)
{
    free_list(target->header_texts);
    free_list(target->attributes);
    free(target->headers);
    free(target->url);
}
