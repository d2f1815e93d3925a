/* http_stand_in - calls that somebody answers in place of the network. */
#include <string.h>

#include "http/http_private.h"

const struct http_request *http_call_request(const struct http_call *call)
{
    return &call->request;
}

const char *http_call_url(const struct http_call *call)
{
    return call->url.plain;
}

static size_t length_of(const char *headers, size_t count)
{
    const char *at = headers;
    for (size_t i = 0; i < 2 * count; i++)
        at += strlen(at) + 1;
    return (size_t)(at - headers);
}

static int take_head(struct http_call *call, const struct http_reply *reply, struct err *err)
{
    struct http_result *result = &call->result;
    size_t len = length_of(reply->headers, reply->header_count);
    if (len && !http_bytes_add(&call->head, reply->headers, len))
        return err_set(err, ERR_MEMORY, "no memory for the answer");
    result->status = reply->status;
    result->version = 11;
    result->headers = call->head.at;
    result->header_count = reply->header_count;
    return 0;
}

static int take_body(struct http_call *call, const struct http_reply *reply, struct err *err)
{
    size_t most = call->request.max_bytes;
    bool streams = call->request.pieces && reply->status >= 200 && reply->status < 300;
    if (most && reply->body_len > most)
        return err_set(err, ERR_TOO_LARGE, "%s %s: the answer is larger than %zu bytes",
                       call->method, call->url.shown, most);
    call->body_seen = reply->body_len;
    if (reply->body_len == 0)
        return 0;
    bool kept = streams ? http_call_offer(call, reply->body, reply->body_len) == 0
                        : http_bytes_add(&call->body, reply->body, reply->body_len);
    return kept ? 0 : err_set(err, ERR_MEMORY, "no memory for the answer");
}

void http_answer(struct http_call *call, const struct http_reply *reply)
{
    struct err err = reply->err;
    if (!err.code && take_head(call, reply, &err) == 0)
        take_body(call, reply, &err);
    http_call_finish(call, err.code ? &err : NULL);
}
