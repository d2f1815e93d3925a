/* The URL of a server. */
#include "bus/link/link_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME_MAX 10
#define PORT_DIGITS 5

/* What of a malformed URL may be shown. Nothing before the last '@', for a password may hold "://",
 * '/' or '@' itself; and nothing behind a ':' that is no port, for the '@' may have been forgotten:
 * "nats://ada:secret". */
static const char *harmless(const char *text, char *buf, size_t size)
{
    const char *scheme = strstr(text, "://"), *at = strrchr(text, '@');
    const char *from = at ? at + 1 : scheme ? scheme + 3 : text;
    size_t len = *from == '[' ? strcspn(from, "]") : 0;
    len += strcspn(from + len, ":/");
    size_t digits = from[len] == ':' ? strspn(from + len + 1, "0123456789") : 0;
    char next = digits ? from[len + 1 + digits] : 'x';
    if (digits <= PORT_DIGITS && (!next || next == '/'))
        len += 1 + digits;
    len += from[len] == '/' || from[len] == ':';
    snprintf(buf, size, "%.*s%s", (int)len, from, from[len] ? "..." : "");
    return buf;
}

static int malformed(const char *text, struct err *err)
{
    const char *scheme = strstr(text, "://"), *at = strchr(text, '@');
    size_t len = scheme && (!at || scheme < at) ? (size_t)(scheme - text) : 0;
    char shown[200];
    for (size_t i = 0; i < len; i++) {
        if (!isalpha((unsigned char)text[i]) || len > SCHEME_MAX)
            len = 0;
    }
    return err_set(err, ERR_INVALID,
                   "server \"%.*s%s%s\": want nats://host:4222 or tls://host:4222", (int)len, text,
                   len ? "://" : "", harmless(text, shown, sizeof shown));
}

static int parse_port(const char **rest, const char *text, unsigned *port, struct err *err)
{
    char *end = NULL, shown[200];
    unsigned long number = strtoul(*rest, &end, 10);
    if (!isdigit((unsigned char)**rest) || number == 0 || number > 65535)
        return err_set(err, ERR_INVALID, "server \"%s\": its port must be 1 to 65535",
                       harmless(text, shown, sizeof shown));
    *port = (unsigned)number;
    *rest = end;
    return 0;
}

int link_url_parse(const char *text, struct link_url *url, struct err *err)
{
    const char *rest = strstr(text, "://");
    const char *at = strrchr(text, '@');
    *url = (struct link_url){.scheme = "nats", .port = 4222};
    if (rest) {
        size_t len = (size_t)(rest - text);
        if (!(len == 4 && strncasecmp(text, "nats", 4) == 0) &&
            !(len == 3 && strncasecmp(text, "tls", 3) == 0))
            return malformed(text, err);
        snprintf(url->scheme, sizeof url->scheme, "%s", len == 3 ? "tls" : "nats");
        rest += 3;
    } else {
        rest = text;
    }
    if (at && at >= rest) {
        url->userinfo = rest;
        url->userinfo_len = (size_t)(at - rest);
        rest = at + 1;
    }
    url->host = rest;
    if (*rest == '[') {
        url->host_len = strcspn(rest, "]");
        url->host_len += rest[url->host_len] == ']';
    } else {
        url->host_len = strcspn(rest, ":/");
    }
    if (url->host_len == 0 || strcspn(rest, " \t\r\n\"'<>\\") < strlen(rest))
        return malformed(text, err);
    rest += url->host_len;
    if (*rest == ':') {
        rest++;
        if (parse_port(&rest, text, &url->port, err) != 0)
            return ERR_INVALID;
    }
    if (*rest == '/')
        rest++;
    return *rest ? malformed(text, err) : 0;
}

char *link_shown_server(const char *text, char *buf, size_t size)
{
    struct link_url url;
    if (link_url_parse(text, &url, NULL) != 0)
        snprintf(buf, size, "?");
    else
        snprintf(buf, size, "%.*s:%u", (int)url.host_len, url.host, url.port);
    return buf;
}

char *link_url_host(const struct link_url *url, char *buf, size_t size, bool *is_address)
{
    unsigned char address[16];
    bool brackets = url->host_len >= 2 && url->host[0] == '[';
    snprintf(buf, size, "%.*s", (int)(url->host_len - (brackets ? 2 : 0)),
             url->host + (brackets ? 1 : 0));
    *is_address = inet_pton(AF_INET, buf, address) == 1 || inet_pton(AF_INET6, buf, address) == 1;
    return buf;
}

char *link_url_full(const struct link_url *url)
{
    char *full = NULL;
    int len = asprintf(&full, "%s://%.*s%s%.*s:%u", url->scheme, (int)url->userinfo_len,
                       url->userinfo ? url->userinfo : "", url->userinfo ? "@" : "",
                       (int)url->host_len, url->host, url->port);
    return len < 0 ? NULL : full;
}

int link_url_list(const char *const *texts, int count, char **list, struct err *err)
{
    size_t size = 0;
    FILE *out = open_memstream(list, &size);
    int code = out ? 0 : err_set(err, ERR_MEMORY, "out of memory");
    for (int i = 0; i < count && !code; i++) {
        struct link_url url;
        code = link_url_parse(texts[i], &url, err);
        if (!code)
            fprintf(out, "%s%s://%.*s:%u", i ? ", " : "", url.scheme, (int)url.host_len, url.host,
                    url.port);
    }
    if (out && fclose(out) != 0 && !code)
        code = err_set(err, ERR_MEMORY, "out of memory");
    if (!code)
        return 0;
    if (out)
        free(*list);
    *list = NULL;
    return code;
}
