/* admin_scrape - GET /metrics. The text of a host with many handlers is long: while many read it,
 * and slowly, further ones get the last that was made, so that memory holds few of them. */
#include <microhttpd.h>
#include <stdlib.h>

#include "app/admin_private.h"
#include "app/metrics.h"
#include "base/text.h"

/* So many readers have a text of their own; further ones get the last. */
#define SCRAPE_READERS 8

/* False: out of memory; the last text is kept. */
static bool make(struct admin *admin, enum metrics_format format)
{
    struct text text;
    text_init(&text);
    struct MHD_Response *response = NULL;
    if (metrics_write(admin->app, format, &text))
        response = MHD_create_response_from_buffer(text.len, text.bytes, MHD_RESPMEM_MUST_COPY);
    text_clear(&text);
    if (!response)
        return false;
    admin_add_headers(response, metrics_content_type(format));
    if (admin->scrapes[format])
        MHD_destroy_response(admin->scrapes[format]); /* once nobody reads it */
    admin->scrapes[format] = response;
    return true;
}

enum MHD_Result admin_scrape(struct admin *admin, struct visit *visit,
                             struct MHD_Connection *connection)
{
    enum metrics_format format =
        metrics_format(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept"));
    bool fresh = !admin->scrapes[format] || admin->scrape_readers < SCRAPE_READERS;
    if (fresh && !make(admin, format))
        return admin_refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
    visit->scrapes = true;
    admin->scrape_readers++;
    return MHD_queue_response(connection, MHD_HTTP_OK, admin->scrapes[format]);
}

void admin_scrape_end(struct admin *admin)
{
    for (size_t i = 0; i < sizeof admin->scrapes / sizeof *admin->scrapes; i++) {
        if (admin->scrapes[i])
            MHD_destroy_response(admin->scrapes[i]);
        admin->scrapes[i] = NULL;
    }
}
