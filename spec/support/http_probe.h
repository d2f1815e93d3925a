/* http_probe - who asks HTTP calls in unit specs: it counts the events, which come on a thread that
 * is not Lua's. */
#ifndef MOONBUS_SPEC_HTTP_PROBE_H
#define MOONBUS_SPEC_HTTP_PROBE_H

#include "http/http.h"

struct http_probe;

struct http_probe *http_probe_new(void);
void http_probe_free(struct http_probe *probe);
/* For http_ask; owner is the probe. */
void http_probe_on_event(void *owner, enum http_event event);
int http_probe_pieces(struct http_probe *probe);
int http_probe_ends(struct http_probe *probe);

#endif
