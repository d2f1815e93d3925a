/* sim_http - calls of HTTP servers in the world: who drives it answers them. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "http/http.h"
#include "sim/sim_private.h"

/* A call that has begun. */
struct http_entry {
    struct http_entry *next;
    struct http *http;      /* not owned; of its host */
    struct http_call *call; /* a reference; NULL: it has its answer */
    uint64_t number, due_ns;
    bool taken;
};

static void ask(void *owner, struct http_call *call)
{
    struct sim *sim = owner;
    struct http_entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        struct http_reply none = {0};
        err_set(&none.err, ERR_MEMORY, "no memory for a call");
        http_answer(call, &none);
        return;
    }
    entry->call = call;
    entry->due_ns = clock_now_ns() + (uint64_t)http_call_request(call)->timeout_ns;
    sim_guard(sim);
    entry->number = ++sim->http_count;
    LL_APPEND(sim->http_calls, entry);
    sim_unguard(sim);
}

void sim_answer_http(struct sim *sim)
{
    sim->answers_http = true;
}

struct http *sim_http_new(struct sim *sim, struct err *err)
{
    sim->http_stand_in = (struct http_stand_in){.owner = sim, .ask = ask};
    const struct http_options options = {
        .per_host = 1, .agent = "moonbus", .stand_in = &sim->http_stand_in};
    return http_new(&options, err);
}

static void end_call(struct sim *sim, struct http_entry *entry, const struct http_reply *reply)
{
    sim_guard(sim);
    struct http_call *call = entry->call;
    entry->call = NULL;
    sim_unguard(sim);
    if (call)
        http_answer(call, reply);
}

void sim_http_end(struct sim *sim, struct http *http)
{
    struct http_reply closed = {0};
    struct http_entry *entry;
    err_set(&closed.err, ERR_CLOSED, "the host stops");
    LL_FOREACH(sim->http_calls, entry)
        end_call(sim, entry, &closed);
    http_stop(http);
}

void sim_http_free(struct sim *sim)
{
    struct http_entry *entry, *next;
    LL_FOREACH_SAFE(sim->http_calls, entry, next)
        free(entry);
    text_clear(&sim->http_shown);
}

/* --- looking at them --- */

static void show(struct sim *sim, const struct http_request *request, struct sim_http_call *out)
{
    struct text *shown = &sim->http_shown;
    text_clear(shown);
    text_init(shown);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        text_add(shown, header->name, header->name_len);
        text_add(shown, "", 1);
        text_add(shown, header->value, header->value_len);
        text_add(shown, "", 1);
    }
    out->headers = shown->bytes;
    out->headers_len = shown->len;
    out->method = request->method;
    out->body = request->body ? request->body : "";
    out->body_len = request->body ? request->body_len : 0;
}

bool sim_take_http(struct sim *sim, struct sim_http_call *out)
{
    struct http_entry *entry;
    sim_guard(sim);
    LL_FOREACH(sim->http_calls, entry) {
        if (!entry->taken && entry->call)
            break;
    }
    if (entry)
        entry->taken = true;
    sim_unguard(sim);
    if (!entry)
        return false;
    show(sim, http_call_request(entry->call), out);
    out->number = entry->number;
    out->url = http_call_url(entry->call);
    return true;
}

/* --- answering, on a fiber --- */

struct http_job {
    struct sim *sim; /* not owned */
    struct http_entry *entry;
    uint64_t at_ns;
    struct http_reply reply;
    struct text headers, body; /* owned */
};

static void *answer(void *arg)
{
    struct http_job *job = arg;
    bool late = job->at_ns >= job->entry->due_ns;
    if (late)
        err_set(&job->reply.err, ERR_TIMEOUT, "no answer within the timeout");
    if (sim_wait_until(job->sim, late ? job->entry->due_ns : job->at_ns))
        end_call(job->sim, job->entry, &job->reply);
    text_clear(&job->headers);
    text_clear(&job->body);
    free(job);
    return NULL;
}

static void *start_answer(void *arg)
{
    struct thread thread;
    if (thread_start(&thread, "web", answer, arg, NULL) == 0)
        thread_detach(thread);
    else
        answer(arg); /* it waits here */
    return NULL;
}

static enum err_code code_of(const char *name)
{
    for (int code = -1; code >= ERR_LAST; code--) {
        if (strcmp(err_name((enum err_code)code), name) == 0)
            return (enum err_code)code;
    }
    return ERR_PROTOCOL;
}

static size_t add_headers(struct text *out, const char *headers, size_t count)
{
    for (size_t i = 0; i < 2 * count; i++) {
        text_add(out, headers, strlen(headers) + 1);
        headers += strlen(headers) + 1;
    }
    return count;
}

void sim_http_answer(struct sim *sim, uint64_t number, const struct sim_http_reply *reply)
{
    struct http_entry *entry;
    LL_SEARCH_SCALAR(sim->http_calls, entry, number, number);
    struct http_job *job = entry ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return;
    job->sim = sim;
    job->entry = entry;
    job->at_ns = sim_now_ns(sim) + (uint64_t)(reply->after_ms * NS_PER_MS);
    text_init(&job->headers);
    text_init(&job->body);
    if (reply->error)
        err_set(&job->reply.err, code_of(reply->error), "%s", reply->sentence);
    job->reply.status = reply->status;
    job->reply.header_count = add_headers(&job->headers, reply->headers, reply->header_count);
    text_add(&job->body, reply->body, reply->body_len);
    job->reply.headers = job->headers.bytes;
    job->reply.body = job->body.bytes;
    job->reply.body_len = reply->body_len;
    sim_call(sim, "web", start_answer, job);
}

/* --- for real, outside of the world --- */

struct real_call {
    struct mutex lock;
    struct cond changed;
    bool ended;
};

static void on_real_end(void *owner, enum http_event event)
{
    struct real_call *real = owner;
    (void)event;
    mutex_lock(&real->lock);
    real->ended = true;
    cond_broadcast(&real->changed);
    mutex_unlock(&real->lock);
}

/* False, with err: it could not begin. */
static bool make_real_call(struct http *http, const struct http_call *asked,
                           struct http_call **call, struct err *err)
{
    struct real_call real = {.ended = false};
    struct http_request request = *http_call_request(asked);
    request.url = http_call_url(asked);
    request.url_len = strlen(request.url);
    request.pieces = false;
    *call = http_call_new(http, &request, err);
    if (!*call)
        return false;
    mutex_init(&real.lock);
    cond_init(&real.changed);
    http_ask(*call, on_real_end, &real);
    mutex_lock(&real.lock);
    while (!real.ended)
        cond_wait(&real.changed, &real.lock);
    mutex_unlock(&real.lock);
    cond_destroy(&real.changed);
    mutex_destroy(&real.lock);
    return true;
}

void sim_http_go_out(struct sim *sim, uint64_t number)
{
    struct http_entry *entry;
    struct err err = {0};
    struct http_call *call = NULL;
    const struct http_options options = {.per_host = 1, .agent = "moonbus"};
    LL_SEARCH_SCALAR(sim->http_calls, entry, number, number);
    if (!entry || !entry->call)
        return;
    struct http *http = http_new(&options, &err);
    bool made = http && make_real_call(http, entry->call, &call, &err);
    const struct http_result *result = made ? http_call_result(call) : NULL;
    if (result && result->err.code)
        err = result->err;
    struct sim_http_reply reply = {.headers = "", .body = ""};
    if (result && !err.code)
        reply = (struct sim_http_reply){.status = result->status,
                                        .headers = result->headers,
                                        .header_count = result->header_count,
                                        .body = result->body ? result->body : "",
                                        .body_len = result->body_len};
    else
        reply.error = err_name(err.code);
    reply.sentence = err.message;
    sim_http_answer(sim, number, &reply);
    http_call_release(call);
    http_free(http);
}
