/* http_transfer - one request of a call, by libcurl: what it is told before, and what it means when
 * it has done. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/value.h"
#include "http/http_private.h"

/* The connection ------------------------------------------------------------------------------- */

/* Closed to programs that a script starts, as all descriptors of the process. */
static curl_socket_t on_open(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_call *call = owner;
    (void)purpose;
    mutex_lock(&call->http->lock);
    call->http->counts.connections++;
    mutex_unlock(&call->http->lock);
    if (!call->url.tls)
        http_host_found(call);
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd >= 0)
        http_kept_opened(call);
    else if (errno == EMFILE || errno == ENFILE)
        err_set(&call->failed, ERR_SYSTEM, "no descriptor is left: raise LimitNOFILE= (ulimit -n)");
    return fd;
}

static bool is(const struct http_header *header, const char *name)
{
    return strcasecmp(header->name, name) == 0;
}

/* May the request be sent twice for one call? By RFC 9110, 9.2.2, or because its key says so. */
static bool may_repeat(const struct http_call *call)
{
    static const char *const idempotent[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < sizeof idempotent / sizeof *idempotent; i++) {
        if (strcmp(call->method, idempotent[i]) == 0)
            return true;
    }
    for (size_t i = 0; i < call->request.header_count; i++) {
        if (is(&call->request.headers[i], "idempotency-key"))
            return true;
    }
    return false;
}

/* Connected, before the request is sent. libcurl sends it once more by itself when a connection
 * that was kept ends before the answer, though the server may have done what it says: not what must
 * be done once. */
static int on_connected(void *owner, char *peer, char *self, int peer_port, int self_port)
{
    struct http_call *call = owner;
    (void)peer;
    (void)self;
    (void)peer_port;
    (void)self_port;
    if (call->phase == PHASE_SENT && !may_repeat(call)) {
        err_set(&call->failed, ERR_CLOSED, "the connection ended before the answer");
        return CURL_PREREQFUNC_ABORT;
    }
    call->phase = PHASE_SENT;
    http_host_found(call);
    return CURL_PREREQFUNC_OK;
}

/* The request ---------------------------------------------------------------------------------- */

/* With a length also when it is empty: of some methods a server expects one. */
static bool sends_body(const struct http_call *call)
{
    const char *method = call->method;
    return (call->request.body && !call->bare) || strcmp(method, "POST") == 0 ||
           strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
}

/* Does the header go along? */
static bool goes_along(const struct http_call *call, const struct http_header *header)
{
    if (call->foreign && (is(header, "host") || http_is_secret(header->name)))
        return false;
    return !call->bare || strncasecmp(header->name, "content-", 8) != 0;
}

static bool append(struct http_call *call, const char *line)
{
    struct curl_slist *list = curl_slist_append(call->list, line);
    if (list)
        call->list = list;
    return list != NULL;
}

static bool append_header(struct http_call *call, const struct http_header *header)
{
    char *line;
    /* libcurl's way to say that a header is empty; with a colon it would be left out. */
    int len = header->value_len ? asprintf(&line, "%s: %s", header->name, header->value)
                                : asprintf(&line, "%s;", header->name);
    if (len < 0)
        return false;
    bool done = append(call, line);
    free(line);
    return done;
}

static bool set_headers(struct http_call *call)
{
    bool typed = !sends_body(call);
    for (size_t i = 0; i < call->request.header_count; i++) {
        const struct http_header *header = &call->request.headers[i];
        if (!goes_along(call, header))
            continue;
        if (!append_header(call, header))
            return false;
        typed = typed || is(header, "content-type");
    }
    /* Neither the kind of a form, which libcurl says of every body, nor a round trip before it. */
    return (typed || append(call, "Content-Type:")) &&
           (!sends_body(call) || append(call, "Expect:")) &&
           curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->list) == CURLE_OK;
}

static void set_method(struct http_call *call)
{
    CURL *easy = call->easy;
    const struct http_request *request = &call->request;
    bool sends = !call->bare && request->body;
    if (strcmp(call->method, "HEAD") == 0 && !sends) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (sends_body(call)) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(sends ? request->body_len : 0));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, sends ? request->body : "");
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
}

static void set_tls(struct http_call *call)
{
    CURL *easy = call->easy;
    const struct http_request *request = &call->request;
    const struct http *http = call->http;
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, request->unverified ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, request->unverified ? 0L : 2L);
    if (request->ca) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    } else {
        if (http->ca)
            curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca);
        if (http->ca_folder)
            curl_easy_setopt(easy, CURLOPT_CAPATH, http->ca_folder);
    }
    if (request->cert && !call->foreign) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, request->cert);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, request->key ? request->key : request->cert);
    }
}

static void set_connection(struct http_call *call)
{
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_SHARE, call->http->share);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* A handle that is dropped while its name is resolved does not wait for that. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
    if (!call->url.tls) {
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, http_kept_closed);
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, call->http);
    }
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, http_kept_none(call) ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
    /* The call's own deadline is the only one. */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 24 * 3600 * 1000L);
    if (!call->http->proxied)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    if (call->request.unix_path) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, call->request.unix_path);
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    }
}

static bool set_up(struct http_call *call)
{
    CURL *easy = call->easy;
    set_connection(call);
    set_tls(call);
    set_method(call);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->reason);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, http_answer_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_answer_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, call->http->agent);
    return curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_URL, call->url.text) == CURLE_OK && set_headers(call) &&
           curl_multi_add_handle(call->http->multi, easy) == CURLM_OK;
}

int http_transfer_begin(struct http_call *call, struct err *err)
{
    call->easy = http_kept_take(call->http);
    call->phase = PHASE_CONNECT;
    call->reason[0] = '\0';
    http_answer_begin(call);
    if (call->easy && set_up(call))
        return 0;
    return err_set(err, ERR_MEMORY, "%s %s: no memory for a request", call->method,
                   call->url.shown);
}

void http_transfer_drop(struct http_call *call)
{
    struct http *http = call->http;
    if (call->easy) {
        curl_multi_remove_handle(http->multi, call->easy);
        http_kept_return(http, call->easy);
        http_kept_left(call);
        call->easy = NULL;
    }
    curl_slist_free_all(call->list);
    call->list = NULL;
    call->paused = false;
}

/* Its end -------------------------------------------------------------------------------------- */

/* With TLS 1.3 the handshake has ended for us when the server says that it wants a certificate, or
 * another one: that comes in the place of the answer. */
static bool is_refusal_by_tls(const struct http_call *call, CURLcode code)
{
    return call->url.tls && (code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR) &&
           strstr(call->reason, "SSL routines") && strstr(call->reason, " alert ");
}

/* What libcurl's code means to who called. */
static enum err_code code_of(const struct http_call *call, CURLcode code)
{
    bool sent = call->phase == PHASE_SENT; /* over a connection that ended; this is another one */
    if (sent && is_refusal_by_tls(call, code))
        return ERR_TLS;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return sent ? ERR_CLOSED : ERR_DNS;
    case CURLE_COULDNT_CONNECT:
        return sent ? ERR_CLOSED : ERR_REFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_SSL_ENGINE_NOTFOUND:
        return ERR_TLS;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2_STREAM:
        return ERR_CLOSED;
#if LIBCURL_VERSION_NUM >= 0x080600
    case CURLE_TOO_LARGE:
        return ERR_TOO_LARGE;
#endif
    case CURLE_OUT_OF_MEMORY:
        /* One line of the head has more than 100 KB, which libcurl calls so. */
        return sent ? ERR_TOO_LARGE : ERR_MEMORY;
    default:
        return ERR_PROTOCOL;
    }
}

static void describe(const struct http_call *call, CURLcode code, struct err *err)
{
    const char *why = *call->reason ? call->reason : curl_easy_strerror(code);
    err->code = code_of(call, code);
    if (call->failed.code != ERR_NONE)
        *err = call->failed;
    else if (err->code == ERR_TOO_LARGE)
        err_set(err, err->code, "a header of the answer is larger than 100 KB");
    else if (err->code == ERR_CLOSED && call->phase == PHASE_ANSWER)
        err_set(err, err->code, "it broke off after %zu bytes of the answer: %s", call->body_seen,
                why);
    else
        err_set(err, err->code, "%s", why);
    err_prefix(err, "%s %s", call->method, call->url.shown);
}

/* As browsers do: who sent a form and is led elsewhere gets what is there. */
static void change_method(struct http_call *call, int status)
{
    bool is_post = strcmp(call->method, "POST") == 0;
    bool is_head = strcmp(call->method, "HEAD") == 0;
    if ((status == 303 && !is_head) || ((status == 301 || status == 302) && is_post)) {
        call->method = "GET";
        call->bare = true;
    }
}

/* Whoever redirects may not have the request sent in the clear that was for TLS, nor to the network
 * what was for a socket (whose server would be asked for what is elsewhere). */
static int judge_redirect(const struct http_call *call, const struct http_url *next,
                          struct err *err)
{
    const struct http_request *request = &call->request;
    if (request->unix_path && strcmp(call->url.origin, next->origin) != 0)
        return err_set(err, ERR_PROTOCOL,
                       "%s %s: it redirects from the socket to another server, %s: call that by "
                       "itself (follow = false tells where)",
                       call->method, call->url.shown, next->shown);
    if (call->url.tls && !next->tls && !request->downgrade)
        return err_set(err, ERR_PROTOCOL,
                       "%s %s: it redirects from https to http, %s: downgrade = true follows that",
                       call->method, call->url.shown, next->shown);
    return 0;
}

/* Where the answer leads to becomes what is called. */
static int follow(struct http_call *call, struct err *err)
{
    struct http_url next;
    if (call->result.redirects == call->request.follow)
        return err_set(err, ERR_PROTOCOL, "%s %s: redirected more than %d times (follow)",
                       call->method, call->url.shown, call->request.follow);
    if (http_url_resolve(&call->url, http_answer_header(call, "location"), &next, err) != 0) {
        err_prefix(err, "%s %s: it redirects to where nobody goes", call->method, call->url.shown);
        err->code = err->code == ERR_INVALID ? ERR_PROTOCOL : err->code;
        return err->code;
    }
    if (judge_redirect(call, &next, err) != 0) {
        http_url_clear(&next);
        return err->code;
    }
    call->foreign = call->foreign || strcmp(call->url.origin, next.origin) != 0;
    change_method(call, call->result.status);
    http_url_clear(&call->url);
    call->url = next;
    call->result.url = call->url.plain;
    call->result.redirects++;
    mutex_lock(&call->http->lock);
    call->http->counts.redirects++;
    mutex_unlock(&call->http->lock);
    return 0;
}

bool http_transfer_end(struct http_call *call, CURLcode code, struct err *err)
{
    bool moves = call->moves && call->failed.code == ERR_NONE;
    err->code = ERR_NONE;
    if (moves)
        return follow(call, err) == 0;
    if (code != CURLE_OK)
        describe(call, code, err);
    else if (!call->head_done) /* for libcurl the line of the status is an answer already */
        err_set(err, ERR_CLOSED, "%s %s: it broke off in the head of the answer", call->method,
                call->url.shown);
    return false;
}

void http_transfer_late(const struct http_call *call, struct err *err)
{
    char timeout[32], doing[120];
    value_format_duration(call->request.timeout_ns, timeout, sizeof timeout);
    switch (call->phase) {
    case PHASE_LINE:
        snprintf(doing, sizeof doing, "it waited for its turn (http.max_per_host is %d)",
                 atomic_load(&call->http->per_host));
        break;
    case PHASE_CONNECT:
        snprintf(doing, sizeof doing, "it was not connected");
        break;
    case PHASE_SENT:
        snprintf(doing, sizeof doing, "connected, and no answer");
        break;
    case PHASE_ANSWER:
        snprintf(doing, sizeof doing, "%zu bytes of the answer had come", call->body_seen);
        break;
    }
    err_set(err, ERR_TIMEOUT, "%s %s: not done within %s: %s", call->method, call->url.shown,
            timeout, doing);
}
