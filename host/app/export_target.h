/* export_target - where traces are sent to, and whose they are: what the config says of both.
 *
 * Its strings are its own; never changes once it is set, but for the server of its resource. */
#ifndef MOONBUS_APP_EXPORT_TARGET_H
#define MOONBUS_APP_EXPORT_TARGET_H

#include "base/err.h"
#include "http/http.h"
#include "trace/otlp.h"

struct config;

/* All zero: nothing. */
struct export_target {
    char *url;       /* owned, as all of it */
    char shown[300]; /* without user, password and query: any of them may be a secret */
    struct http_header *headers;
    char **header_texts; /* what they are made of */
    int header_count;
    int64_t timeout_ns;
    struct otlp_resource resource;
    char **attributes;
    char service[256], host[256], instance[40];
};

/* config: not kept. 0, or ERR_INVALID: what HTTP would refuse. To be cleared in any case. */
int export_target_set(struct export_target *target, const struct config *config, struct http *http,
                      struct err *err);
void export_target_clear(struct export_target *target);

/* A POST without its body; borrows. */
struct http_request export_target_request(const struct export_target *target);

#endif
