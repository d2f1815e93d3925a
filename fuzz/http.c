/* What an HTTP request may say, and where a server may lead it, as host/http/http_url.h reads it.
 *
 *   u URL               is it called?
 *   r URL\nLOCATION     a redirect
 *   h NAME\nVALUE       a header
 *   m METHOD */
#include "http/http_url.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/http.h"

static void check_one_line(const char *text)
{
    for (; *text; text++)
        MUST((unsigned char)*text > ' ' && *text != 0x7f);
}

static void check_refused(const struct err *err, int code)
{
    fuzz_check_err(err, code);
    MUST(code == ERR_INVALID);
}

/* It is of http or https, cannot become a second line, and reads as what it was read as. */
static void check_url(const struct http_url *url)
{
    struct http_url again;
    MUST(url->text && url->origin && url->plain && url->shown);
    MUST(strncmp(url->text, "http://", 7) == 0 || strncmp(url->text, "https://", 8) == 0);
    MUST(url->tls == (url->text[4] == 's'));
    check_one_line(url->text);
    MUST(!strchr(url->text, '#') && !strchr(url->shown, '?'));
    MUST(http_url_read(url->text, strlen(url->text), &again, NULL) == 0);
    MUST(strcmp(again.origin, url->origin) == 0 && strcmp(again.shown, url->shown) == 0);
    http_url_clear(&again);
}

static void read_url(const char *text, size_t len)
{
    struct http_url url;
    struct err err;
    int code = http_url_read(text, len, &url, &err);
    if (code)
        check_refused(&err, code);
    else
        check_url(&url);
    http_url_clear(&url);
}

static void redirect(const char *from, size_t len, const char *location)
{
    struct http_url base, url;
    struct err err;
    if (http_url_read(from, len, &base, NULL) != 0)
        return;
    int code = http_url_resolve(&base, location, &url, &err);
    if (code) {
        check_refused(&err, code);
    } else {
        check_url(&url);
        /* No login goes to another origin, unless the server names one. */
        if (strcmp(base.origin, url.origin) != 0 && !strchr(location, '@'))
            MUST(strcmp(url.text, url.plain) == 0);
    }
    http_url_clear(&base);
    http_url_clear(&url);
}

static void header(const char *name, size_t name_len, const char *value, size_t value_len)
{
    const struct http_header header = {
        .name = name, .value = value, .name_len = name_len, .value_len = value_len};
    struct err err;
    int code = http_check_header(&header, &err);
    if (code) {
        check_refused(&err, code);
        return;
    }
    MUST(name_len > 0 && strlen(name) == name_len && !strpbrk(name, " \t:\r\n"));
    MUST(strlen(value) == value_len && !strpbrk(value, "\r\n"));
}

void fuzz_http(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    size_t len, rest_len;
    struct err err;
    char *line = kind == 'r' || kind == 'h' ? input_line(&input, &len) : input_rest(&input, &len);
    char *rest = input_rest(&input, &rest_len);
    if (kind == 'u')
        read_url(line, len);
    else if (kind == 'r')
        redirect(line, len, rest);
    else if (kind == 'h')
        header(line, len, rest, rest_len);
    else if (kind == 'm' && http_check_method(line, len, &err) != 0)
        check_refused(&err, err.code);
    free(line);
    free(rest);
}
