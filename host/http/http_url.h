/* http_url - what a URL says, and what a request may say: checked before anything is sent.
 *
 * Pure functions, any thread. Errors are ERR_INVALID and name the text; they never show a
 * password or what stands behind the "?", for they are logged. */
#ifndef MOONBUS_HTTP_HTTP_URL_H
#define MOONBUS_HTTP_HTTP_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct http_header;

/* Its strings are owned. */
struct http_url {
    char *text;   /* what is called; no fragment */
    char *origin; /* "https://example.com:443": who may have what is secret */
    char *plain;  /* without user and password */
    char *shown;  /* for people: without the query, too */
    bool tls;
};

/* Reads an absolute URL of http or https. 0, or an error: *url has nothing then. */
int http_url_read(const char *text, size_t len, struct http_url *url, struct err *err);

/* The URL that a redirect at `base` leads to. A relative one, and an absolute one of the same
 * origin, keep base's user and password. */
int http_url_resolve(const struct http_url *base, const char *location, struct http_url *url,
                     struct err *err);

void http_url_clear(struct http_url *url);

/* A method: letters as of a token; CONNECT is none. */
int http_check_method(const char *method, size_t len, struct err *err);

/* A header that is to be sent: no control characters, and none of those that say where the body
 * ends, which is the host's to say. */
int http_check_header(const struct http_header *header, struct err *err);

/* May this header say who asks? By its name, of which one word (between - and _) is that of a
 * credential: "Authorization", "X-Api-Key", "Private-Token", "Cookie"; Idempotency-Key is none. So
 * it is not for another server than the one that it was meant for. */
bool http_is_secret(const char *name);

#endif
