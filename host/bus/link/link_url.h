/* link_url - the URL of a server, taken apart. Pure. */
#ifndef MOONBUS_BUS_LINK_LINK_URL_H
#define MOONBUS_BUS_LINK_LINK_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* The parts borrow the text. */
struct link_url {
    char scheme[8]; /* "nats" or "tls" */
    const char *userinfo;
    size_t userinfo_len; /* 0: none */
    const char *host;    /* with the brackets of an IPv6 address */
    size_t host_len;
    unsigned port;
};

/* 0, or ERR_INVALID. The error never shows what may be a password, however malformed the URL is:
 * nothing before an '@', nor what stands where a port should. */
int link_url_parse(const char *text, struct link_url *url, struct err *err);

/* The part of a URL that may be shown: "127.0.0.1:4222"; "?" for what is none. Returns buf. */
char *link_shown_server(const char *text, char *buf, size_t size);

/* The URL in full, with its login and port. The caller's (free); NULL: out of memory. */
char *link_url_full(const struct link_url *url);

/* All of them without logins, for people: "nats://a:4222, tls://b:4222". *list: the caller's
 * (free). 0, or what is wrong with one of them. */
int link_url_list(const char *const *texts, int count, char **list, struct err *err);

/* The host as a resolver takes it, without brackets. Returns buf; true in *is_address: no name. */
char *link_url_host(const struct link_url *url, char *buf, size_t size, bool *is_address);

#endif
