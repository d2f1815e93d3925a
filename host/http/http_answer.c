/* http_answer - what libcurl hands over of an answer: its head, and its body, unpacked. */
#include <string.h>
#include <strings.h>

#include "http/http_private.h"

/* Names and values of an answer's headers; servers stay below 16 KB. */
#define HEAD_MOST ((size_t)64 << 10)
/* Lines of heads and trailers, whatever is kept of them. */
#define LINES_MOST ((size_t)256 << 10)
/* Answers of 1xx before the one that is meant. */
#define INTERIMS_MOST 32
/* Of a Content-Length: libcurl would take one with more for none, and a cut body for a whole one.
 */
#define LENGTH_DIGITS 18
/* Of the body of a redirect, which nobody reads, for the sake of the connection. */
#define IGNORED_MOST ((size_t)64 << 10)

/* The answer's head -----------------------------------------------------------------------------
 */

/* Another head is to come. */
static void forget(struct http_call *call)
{
    call->head.len = call->body.len = 0;
    call->head_count = 0;
    call->head_done = call->moves = call->streams = false;
    call->body_seen = 0;
    call->failed.code = ERR_NONE;
    call->result.status = 0;
    call->result.headers = NULL; /* head may move while the next one comes */
    call->result.header_count = 0;
}

void http_answer_begin(struct http_call *call)
{
    forget(call);
    call->head_seen = 0;
    call->interims = 0;
}

/* The value of a header of the answer; NULL: it has none of that name. */
const char *http_answer_header(const struct http_call *call, const char *wanted)
{
    const char *at = call->head.at;
    for (size_t i = 0; i < call->head_count; i++) {
        const char *value = at + strlen(at) + 1;
        if (strcasecmp(at, wanted) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

static int fail(struct http_call *call, enum err_code code, const char *why)
{
    return err_set(&call->failed, code, "%s", why);
}

static int fail_memory(struct http_call *call)
{
    return fail(call, ERR_MEMORY, "no memory for the answer");
}

static int fail_too_large(struct http_call *call)
{
    return err_set(&call->failed, ERR_TOO_LARGE, "the answer is larger than %zu bytes",
                   call->request.max_bytes);
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Its length is too much already: none of it needs to be read. What it is when it is unpacked is
 * not known yet. */
static bool announces_too_much(const struct http_call *call)
{
    curl_off_t length = -1;
    size_t most = call->request.max_bytes;
    curl_easy_getinfo(call->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    return most && length > 0 && (uint64_t)length > most && !call->moves &&
           strcmp(call->method, "HEAD") != 0 && !http_answer_header(call, "content-encoding");
}

/* All of the head is there; of an answer that is meant (no 100, no 103). */
static int end_head(struct http_call *call)
{
    long status = 0, version = 0;
    struct http_result *result = &call->result;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 101)
        return fail(call, ERR_PROTOCOL,
                    "it switches to another protocol (101), which nobody asked for");
    if (status < 200 && ++call->interims > INTERIMS_MOST)
        return fail(call, ERR_PROTOCOL,
                    "more than 32 interim answers (1xx), and none that is meant");
    if (status < 200)
        return 0; /* another head follows */
    curl_easy_getinfo(call->easy, CURLINFO_HTTP_VERSION, &version);
    call->head_done = true;
    call->phase = PHASE_ANSWER;
    call->moves = is_redirect((int)status) && call->request.follow > 0 &&
                  http_answer_header(call, "location");
    call->streams = call->request.pieces && status >= 200 && status < 300;
    result->version = version == CURL_HTTP_VERSION_1_0   ? 10
                      : version == CURL_HTTP_VERSION_2_0 ? 20
                                                         : 11;
    result->status = (int)status;
    result->headers = call->head.at;
    result->header_count = call->head_count;
    return announces_too_much(call) ? fail_too_large(call) : 0;
}

/* Where the body ends: one number. Who reads the first and who reads the last of several would
 * disagree about that, and take the rest for another answer. */
static int check_length(struct http_call *call, const char *value, size_t len)
{
    const char *before = http_answer_header(call, "content-length");
    bool is_number = len > 0 && len <= LENGTH_DIGITS;
    for (size_t i = 0; i < len; i++)
        is_number = is_number && value[i] >= '0' && value[i] <= '9';
    if (!is_number)
        return fail(call, ERR_PROTOCOL, "its Content-Length is no number of at most 18 digits");
    if (before && (strlen(before) != len || memcmp(before, value, len) != 0))
        return fail(call, ERR_PROTOCOL, "it has two different Content-Length");
    return 0;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* A line that begins with a space goes on with the value of the one before: folded, as once was
 * allowed. Newer versions of libcurl join them by themselves. */
static int unfold(struct http_call *call, const char *line, size_t len)
{
    while (len > 0 && is_blank(*line))
        line++, len--;
    if (!call->head_count || !len || memchr(line, '\0', len))
        return 0;
    if (call->head.len + len + 1 > HEAD_MOST)
        return fail(call, ERR_TOO_LARGE, "the headers of the answer are larger than 64 KB");
    bool is_empty = call->head.at[call->head.len - 2] == '\0';
    call->head.at[call->head.len - 1] = ' '; /* in the place of the NUL */
    call->head.len -= is_empty;
    return http_bytes_add(&call->head, line, len) && http_bytes_add(&call->head, "", 1)
               ? 0
               : fail_memory(call);
}

/* "Name: value" without its line break. */
static int keep_header(struct http_call *call, const char *line, size_t len)
{
    while (len > 0 && is_blank(line[len - 1]))
        len--;
    if (is_blank(*line))
        return unfold(call, line, len);
    const char *colon = memchr(line, ':', len);
    if (!colon || memchr(line, '\0', len))
        return 0;
    const char *value = colon + 1, *end = line + len;
    while (value < end && is_blank(*value))
        value++;
    size_t name_len = (size_t)(colon - line), value_len = (size_t)(end - value);
    static const char length[] = "content-length";
    if (name_len == sizeof length - 1 && strncasecmp(line, length, name_len) == 0 &&
        check_length(call, value, value_len) != 0)
        return call->failed.code;
    if (call->head.len + name_len + value_len + 2 > HEAD_MOST)
        return fail(call, ERR_TOO_LARGE, "the headers of the answer are larger than 64 KB");
    if (!http_bytes_add(&call->head, line, name_len) || !http_bytes_add(&call->head, "", 1) ||
        !http_bytes_add(&call->head, value, value_len) || !http_bytes_add(&call->head, "", 1))
        return fail_memory(call);
    call->head_count++;
    return 0;
}

size_t http_answer_head(char *bytes, size_t size, size_t count, void *owner)
{
    struct http_call *call = owner;
    size_t all = size * count, len = all;
    call->head_seen += all;
    if (call->head_seen > LINES_MOST) {
        fail(call, ERR_TOO_LARGE,
             "the headers of the answer are larger than 256 KB, those of interim "
             "answers and trailers with them");
        return 0;
    }
    if (call->head_done)
        return all; /* a trailer */
    while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
        len--;
    int code;
    if (len >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        forget(call);
        code = 0;
    } else {
        code = len == 0 ? end_head(call) : keep_header(call, bytes, len);
    }
    return code ? 0 : all;
}

/* Its body ------------------------------------------------------------------------------------- */

/* When enough waits to be taken, no more is read. What libcurl has read already and unpacks comes
 * in one go when it goes on: it is not refused (CURL_WRITEFUNC_PAUSE), for then libcurl would copy
 * all that is left of it for each piece. */
static int stream(struct http_call *call, const char *bytes, size_t len)
{
    int code = http_call_offer(call, bytes, len);
    if (code == ERR_MEMORY)
        return fail_memory(call);
    if (code)
        return fail(call, code, "what it unpacks to does not end");
    if (http_call_full(call)) {
        call->paused = true;
        curl_easy_pause(call->easy, CURLPAUSE_RECV);
    }
    return 0;
}

size_t http_answer_body(char *bytes, size_t size, size_t count, void *owner)
{
    struct http_call *call = owner;
    size_t len = size * count, most = call->request.max_bytes;
    if (call->moves) {
        call->body_seen += len;
        return call->body_seen > IGNORED_MOST ? 0 : len;
    }
    if (most && call->body_seen + len > most) {
        fail_too_large(call);
        return 0;
    }
    call->body_seen += len;
    if (call->streams)
        return stream(call, bytes, len) == 0 ? len : 0;
    if (http_bytes_add(&call->body, bytes, len))
        return len;
    fail_memory(call);
    return 0;
}
