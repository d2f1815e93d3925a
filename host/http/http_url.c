/* http_url - see http_url.h. Read by libcurl's own parser, so that what is checked is what is
 * called. */
#include "http/http_url.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "http/http.h"

/* As much of a foreign text as an error shows. */
#define SHOWN_MOST 200

/* Escaped, and not too long. text is initialized here; the caller clears it. */
static const char *show(struct text *text, const char *bytes, size_t len)
{
    text_init(text);
    text_escape(text, bytes, len < SHOWN_MOST ? len : SHOWN_MOST);
    if (len > SHOWN_MOST)
        text_puts(text, "...");
    return text->failed ? "?" : text->bytes;
}

/* What stands before the first byte that may be a secret: a password (whose @ comes before any
 * slash) or a query. */
static int refuse_url(const char *url, size_t len, const char *why, struct err *err)
{
    struct text text;
    const char *end = memchr(url, '?', len);
    size_t shown = end ? (size_t)(end - url) : len;
    if (memchr(url, '@', shown))
        shown = 0;
    err_set(err, ERR_INVALID, "the URL%s%s%s %s", shown ? " \"" : "",
            shown ? show(&text, url, shown) : "", shown ? "\"" : "", why);
    if (shown)
        text_clear(&text);
    return ERR_INVALID;
}

/* URL parts ------------------------------------------------------------------------------------ */

/* To be freed by curl_free; NULL: there is none. */
static char *get_part(CURLU *parts, CURLUPart part, unsigned flags)
{
    char *value = NULL;
    return curl_url_get(parts, part, &value, flags) == CURLUE_OK ? value : NULL;
}

/* The URL of what is left of parts; the caller frees it by free. */
static char *join_parts(CURLU *parts)
{
    char *url = get_part(parts, CURLUPART_URL, 0);
    char *copy = url ? strdup(url) : NULL;
    curl_free(url);
    return copy;
}

static bool read_origin(CURLU *parts, struct http_url *url)
{
    char *scheme = get_part(parts, CURLUPART_SCHEME, 0);
    char *host = get_part(parts, CURLUPART_HOST, 0);
    char *port = get_part(parts, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    struct text text;
    text_init(&text);
    if (scheme && host && port) {
        url->tls = strcmp(scheme, "https") == 0;
        for (char *c = host; *c; c++)
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
        text_printf(&text, "%s://%s:%s", scheme, host, port);
        url->origin = text.failed ? NULL : strdup(text.bytes);
    }
    text_clear(&text);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return url->origin != NULL;
}

/* What parts join to without user and password; they are used up. To join them is most of what a
 * URL costs, so it is not done when there is none. */
static char *join_without_login(CURLU *parts, const char *joined)
{
    if (!strchr(joined, '@'))
        return strdup(joined);
    curl_url_set(parts, CURLUPART_USER, NULL, 0);
    curl_url_set(parts, CURLUPART_PASSWORD, NULL, 0);
    return join_parts(parts);
}

/* Takes what parts say; they are used up. */
static int read_parts(CURLU *parts, struct http_url *url, struct err *err)
{
    curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
    url->text = join_parts(parts);
    bool known = read_origin(parts, url);
    url->plain = url->text ? join_without_login(parts, url->text) : NULL;
    /* Neither a host nor a path has a question mark that is not encoded. */
    url->shown = url->plain ? strndup(url->plain, strcspn(url->plain, "?")) : NULL;
    if (url->text && url->plain && url->shown && known)
        return 0;
    http_url_clear(url);
    return err_set(err, ERR_MEMORY, "no memory for a URL");
}

/* NULL: parts are those of a URL that may be called. */
static const char *judge_parts(CURLU *parts, CURLUcode code)
{
    if (code == CURLUE_BAD_SCHEME || code == CURLUE_NO_SCHEME)
        return "has no scheme: write \"http://...\" or \"https://...\"";
    if (code == CURLUE_NO_HOST || code == CURLUE_BAD_HOSTNAME)
        return "names no host that can be called";
    if (code == CURLUE_BAD_PORT_NUMBER)
        return "has a port that is none";
    if (code != CURLUE_OK)
        return "is none that can be read: write \"https://host/path\"";
    char *scheme = get_part(parts, CURLUPART_SCHEME, 0);
    char *host = get_part(parts, CURLUPART_HOST, 0);
    bool ours = scheme && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    /* libcurl would encode a % once more each time that it is asked for the URL. */
    bool named = host && *host && (*host == '[' || !strchr(host, '%'));
    curl_free(scheme);
    curl_free(host);
    if (!ours)
        return "is neither http nor https";
    return named ? NULL : "names no host that can be called";
}

static bool has_control(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == 0x7f)
            return true;
    }
    return false;
}

int http_url_read(const char *text, size_t len, struct http_url *url, struct err *err)
{
    *url = (struct http_url){0};
    if (has_control(text, len))
        return refuse_url(text, len, "has a space or a control character: encode it (%20)", err);
    /* Browsers take it for a slash, and so another host than libcurl does. */
    if (memchr(text, '\\', len))
        return refuse_url(text, len, "has a backslash: encode it (%5C)", err);
    if (len == 0)
        return refuse_url(text, len, judge_parts(NULL, CURLUE_NO_SCHEME), err);
    CURLU *parts = curl_url();
    char *ended = strndup(text, len);
    if (!parts || !ended) {
        curl_url_cleanup(parts);
        free(ended);
        return err_set(err, ERR_MEMORY, "no memory for a URL");
    }
    const char *why =
        judge_parts(parts, curl_url_set(parts, CURLUPART_URL, ended, CURLU_NON_SUPPORT_SCHEME));
    int code = why ? refuse_url(text, len, why, err) : read_parts(parts, url, err);
    curl_url_cleanup(parts);
    free(ended);
    return code;
}

/* Redirects ------------------------------------------------------------------------------------ */

static void keep_login(CURLU *to, CURLU *from)
{
    const CURLUPart parts[] = {CURLUPART_USER, CURLUPART_PASSWORD};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *value = get_part(from, parts[i], 0);
        if (value)
            curl_url_set(to, parts[i], value, 0);
        curl_free(value);
    }
}

/* Puts base's login into url, which has none. */
static void inherit_login(const struct http_url *base, struct http_url *url)
{
    CURLU *from = curl_url(), *to = curl_url();
    if (from && to && curl_url_set(from, CURLUPART_URL, base->text, 0) == CURLUE_OK &&
        curl_url_set(to, CURLUPART_URL, url->text, 0) == CURLUE_OK) {
        char *user = get_part(to, CURLUPART_USER, 0);
        if (!user)
            keep_login(to, from);
        char *text = user ? NULL : join_parts(to);
        curl_free(user);
        if (text) {
            free(url->text);
            url->text = text;
        }
    }
    curl_url_cleanup(from);
    curl_url_cleanup(to);
}

int http_url_resolve(const struct http_url *base, const char *location, struct http_url *url,
                     struct err *err)
{
    *url = (struct http_url){0};
    size_t len = strlen(location);
    CURLU *parts = curl_url();
    if (!parts || curl_url_set(parts, CURLUPART_URL, base->text, 0) != CURLUE_OK) {
        curl_url_cleanup(parts);
        return err_set(err, ERR_MEMORY, "no memory for a URL");
    }
    /* Servers send spaces; what is worse is none of ours to repair. */
    const char *why = judge_parts(
        parts, curl_url_set(parts, CURLUPART_URL, location,
                            CURLU_NON_SUPPORT_SCHEME | CURLU_ALLOW_SPACE | CURLU_URLENCODE));
    int code = why ? refuse_url(location, len, why, err) : read_parts(parts, url, err);
    curl_url_cleanup(parts);
    if (!code && strcmp(base->origin, url->origin) == 0)
        inherit_login(base, url);
    return code;
}

void http_url_clear(struct http_url *url)
{
    free(url->text);
    free(url->origin);
    free(url->plain);
    free(url->shown);
    *url = (struct http_url){0};
}

/* Methods and headers -------------------------------------------------------------------------- */

#define METHOD_MOST 32

/* RFC 9110's token: what the name of a header and a method consist of. */
static bool is_token(const char *text, size_t len)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || !strchr(others, c)))
            return false;
    }
    return len > 0;
}

static bool is(const char *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && strncasecmp(name, wanted, len) == 0;
}

int http_check_method(const char *method, size_t len, struct err *err)
{
    if (is_token(method, len) && len <= METHOD_MOST && !is(method, len, "CONNECT"))
        return 0;
    struct text text;
    err_set(err, ERR_INVALID, "the method \"%s\" is none: there are GET, POST, PUT ...",
            show(&text, method, len));
    text_clear(&text);
    return ERR_INVALID;
}

bool http_is_secret(const char *name)
{
    static const char *const words[] = {
        "auth",       "authentication", "authorization", "cookie",
        "credential", "credentials",    "jwt",           "key",
        "apikey",     "token",          "session",       "sessionid",
        "signature",  "secret",         "passwd",        "password"};
    if (strcasecmp(name, "Idempotency-Key") == 0)
        return false;
    while (*name) {
        size_t len = strcspn(name, "-_");
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            if (is(name, len, words[i]))
                return true;
        }
        name += len;
        name += strspn(name, "-_");
    }
    return false;
}

static bool is_value(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

int http_check_header(const struct http_header *header, struct err *err)
{
    static const char *const framing[] = {"content-length", "transfer-encoding", "te",    "trailer",
                                          "connection",     "upgrade",           "expect"};
    struct text text;
    int code = 0;
    const char *name = show(&text, header->name, header->name_len);
    if (!is_token(header->name, header->name_len))
        code = err_set(err, ERR_INVALID,
                       "the header \"%s\" has a name that none can have: letters, digits, - and _",
                       name);
    else if (!is_value(header->value, header->value_len))
        code = err_set(err, ERR_INVALID,
                       "the header \"%s\" has a line break or another control character in its "
                       "value",
                       name);
    for (size_t i = 0; !code && i < sizeof framing / sizeof *framing; i++) {
        if (is(header->name, header->name_len, framing[i]))
            code = err_set(err, ERR_INVALID, "the header \"%s\" is the host's to set", name);
    }
    text_clear(&text);
    return code;
}
