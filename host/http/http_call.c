/* http_call - a call as other threads see it: made, asked, cancelled, read. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/http_private.h"

/* A body that is read in pieces is paused when so much of it waits to be taken, */
#define KEPT_ENOUGH ((size_t)64 << 10)
/* and given up when so much comes nevertheless: what libcurl has read, 16 KB, is unpacked to the
 * end; by gzip to 17 MB at most. */
#define KEPT_MOST ((size_t)40 << 20)
/* Most heads and many bodies fit; a page of its own for each would be cleared by the kernel first.
 */
#define BYTES_FIRST ((size_t)512)

/* The request's copy ----------------------------------------------------------------------------
 */

static size_t room_for(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

static size_t room_of(const struct http_request *request)
{
    size_t room = request->method_len + 1 + request->body_len + 1;
    for (size_t i = 0; i < request->header_count; i++)
        room += request->headers[i].name_len + request->headers[i].value_len + 2;
    room += request->header_count * sizeof(struct http_header);
    return room + room_for(request->unix_path) + room_for(request->ca) + room_for(request->cert) +
           room_for(request->key);
}

/* Copies len bytes and a NUL to *at, which moves on. */
static const char *lay(char **at, const char *bytes, size_t len)
{
    char *copy = *at;
    if (len)
        memcpy(copy, bytes, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

static const char *lay_text(char **at, const char *text)
{
    return text ? lay(at, text, strlen(text)) : NULL;
}

/* The URL is read, not copied. */
static int copy_request(struct http_call *call, const struct http_request *request)
{
    call->text = malloc(room_of(request));
    if (!call->text)
        return ERR_MEMORY;
    struct http_request *copy = &call->request;
    struct http_header *headers = (struct http_header *)(void *)call->text;
    char *at = call->text + request->header_count * sizeof *headers;
    *copy = *request;
    copy->url = NULL;
    for (size_t i = 0; i < request->header_count; i++) {
        headers[i] = request->headers[i];
        headers[i].name = lay(&at, request->headers[i].name, request->headers[i].name_len);
        headers[i].value = lay(&at, request->headers[i].value, request->headers[i].value_len);
    }
    copy->headers = headers;
    copy->method = lay(&at, request->method, request->method_len);
    copy->body = request->body ? lay(&at, request->body, request->body_len) : NULL;
    copy->unix_path = lay_text(&at, request->unix_path);
    copy->ca = lay_text(&at, request->ca);
    copy->cert = lay_text(&at, request->cert);
    copy->key = lay_text(&at, request->key);
    return 0;
}

static int check_request(const struct http_request *request, struct err *err)
{
    if (http_check_method(request->method, request->method_len, err) != 0)
        return ERR_INVALID;
    for (size_t i = 0; i < request->header_count; i++) {
        if (http_check_header(&request->headers[i], err) != 0)
            return ERR_INVALID;
    }
    if (request->body && request->method_len == 4 && strncasecmp(request->method, "HEAD", 4) == 0)
        return err_set(err, ERR_INVALID, "a HEAD request has no body");
    if (request->timeout_ns <= 0)
        return err_set(err, ERR_INVALID, "the timeout must be more than 0");
    return 0;
}

/* Its life ------------------------------------------------------------------------------------- */

struct http_call *http_call_new(struct http *http, const struct http_request *request,
                                struct err *err)
{
    struct http_url url;
    if (check_request(request, err) != 0 ||
        http_url_read(request->url, request->url_len, &url, err) != 0)
        return NULL;
    struct http_call *call = calloc(1, sizeof *call);
    if (!call || copy_request(call, request) != 0) {
        http_url_clear(&url);
        free(call);
        err_set(err, ERR_MEMORY, "no memory for a call");
        return NULL;
    }
    atomic_init(&call->references, 1);
    call->http = http;
    call->url = url;
    call->result.url = call->url.plain;
    call->method = call->request.method;
    call->place.flow = request->flow;
    return call;
}

struct http_call *http_call_retain(struct http_call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    return call;
}

void http_call_release(struct http_call *call)
{
    if (!call || atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) != 1)
        return;
    http_url_clear(&call->url);
    free(call->text);
    free(call->kept.at);
    free(call->head.at);
    free(call->body.at);
    free(call);
}

/* Asking --------------------------------------------------------------------------------------- */

/* What the call has already, for a caller that asks. With the lock held. */
static bool has_event(const struct http_call *call, enum http_event *event)
{
    must_hold(&call->http->lock);
    bool more = call->kept_from < call->kept.len;
    *event = more ? HTTP_PIECE : HTTP_END;
    return more || call->ended;
}

/* It ends before the thread has heard of it. With the lock held. */
static void end_unbegun(struct http_call *call, enum err_code code, const char *why)
{
    must_hold(&call->http->lock);
    err_set(&call->result.err, code, "%s %s: %s", call->method, call->url.shown, why);
    call->ended = true;
    call->http->counts.failures[-code]++;
}

void http_ask(struct http_call *call, http_on_event *on_event, void *owner)
{
    struct http *http = call->http;
    enum http_event event;
    bool wake = false, begins = false;
    mutex_lock(&http->lock);
    BUG_ON(call->on_event);
    if (!call->begun && !call->ended) {
        http->counts.calls++;
        if (http->stopping)
            end_unbegun(call, ERR_CLOSED, "the host stops");
        else if (!http->stand_in && !http_start(http))
            end_unbegun(call, ERR_SYSTEM, "the thread for HTTP cannot be started");
    }
    bool known = has_event(call, &event);
    if (!known) {
        call->on_event = on_event;
        call->owner = owner;
        begins = http->stand_in && !call->begun;
        wake = !http->stand_in && http_todo(call, call->begun ? WANT_MORE : WANT_START);
        call->begun = true;
    }
    mutex_unlock(&http->lock);
    if (wake)
        http_wake(http);
    if (begins)
        http->stand_in->ask(http->stand_in->owner, http_call_retain(call));
    if (known)
        on_event(owner, event);
}

bool http_cancel(struct http_call *call)
{
    struct http *http = call->http;
    bool wake = false;
    mutex_lock(&http->lock);
    bool won = call->on_event != NULL;
    call->on_event = NULL;
    if (call->begun && !call->ended && !call->cancelled && !http->stand_in)
        wake = http_todo(call, WANT_CANCEL);
    call->cancelled = true;
    mutex_unlock(&http->lock);
    if (wake)
        http_wake(http);
    return won;
}

char *http_call_piece(struct http_call *call, size_t *len)
{
    struct http_bytes *kept = &call->kept;
    mutex_lock(&call->http->lock);
    size_t left = kept->len - call->kept_from;
    *len = left < HTTP_PIECE_MOST ? left : HTTP_PIECE_MOST;
    char *piece = *len ? malloc(*len) : NULL;
    if (piece) {
        memcpy(piece, kept->at + call->kept_from, *len);
        call->kept_from += *len;
    }
    if (call->kept_from == kept->len)
        kept->len = call->kept_from = 0;
    mutex_unlock(&call->http->lock);
    return piece;
}

const struct http_result *http_call_result(const struct http_call *call)
{
    return &call->result;
}

/* Answering ------------------------------------------------------------------------------------ */

bool http_bytes_add(struct http_bytes *bytes, const char *more, size_t len)
{
    if (bytes->len + len > bytes->capacity) {
        size_t capacity = bytes->capacity ? bytes->capacity : BYTES_FIRST;
        while (capacity < bytes->len + len)
            capacity *= 2;
        char *at = realloc(bytes->at, capacity);
        if (!at)
            return false;
        bytes->at = at;
        bytes->capacity = capacity;
    }
    memcpy(bytes->at + bytes->len, more, len);
    bytes->len += len;
    return true;
}

bool http_call_full(struct http_call *call)
{
    mutex_lock(&call->http->lock);
    bool full = call->kept.len - call->kept_from >= KEPT_ENOUGH;
    mutex_unlock(&call->http->lock);
    return full;
}

int http_call_offer(struct http_call *call, const char *bytes, size_t len)
{
    struct http *http = call->http;
    mutex_lock(&http->lock);
    bool fits = call->kept.len + len <= KEPT_MOST;
    bool kept = fits && http_bytes_add(&call->kept, bytes, len);
    http_on_event *on_event = kept ? call->on_event : NULL;
    void *owner = call->owner;
    if (kept)
        call->on_event = NULL;
    mutex_unlock(&http->lock);
    if (on_event)
        on_event(owner, HTTP_PIECE);
    return kept ? 0 : fits ? ERR_MEMORY : ERR_TOO_LARGE;
}

static void count_end(struct http_call *call)
{
    must_hold(&call->http->lock);
    struct http_counts *counts = &call->http->counts;
    enum err_code code = call->result.err.code;
    if (call->cancelled)
        counts->cancelled++;
    else if (code == ERR_NONE)
        counts->answers++;
    else
        counts->failures[-code]++;
    if (code == ERR_NONE && !call->bare)
        counts->sent_bytes += call->request.body_len;
    counts->received_bytes += call->body_seen;
}

void http_call_finish(struct http_call *call, const struct err *err)
{
    struct http *http = call->http;
    struct http_result *result = &call->result;
    if (err)
        result->err = *err;
    result->body = call->body.at;
    result->body_len = call->body.len;
    mutex_lock(&http->lock);
    count_end(call);
    call->ended = true;
    http_on_event *on_event = call->on_event;
    void *owner = call->owner;
    call->on_event = NULL;
    mutex_unlock(&http->lock);
    if (on_event)
        on_event(owner, HTTP_END);
    http_call_release(call);
}
