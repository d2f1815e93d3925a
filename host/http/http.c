/* http - the client's life, and its thread: epoll for libcurl's sockets, its timer, the deadlines
 * of calls, and what other threads want of them. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/value.h"
#include "http/http_private.h"

#define EVENTS_AT_ONCE 64
/* Without calls for so long, it is quiet. */
#define QUIET_MS 10000

/* What other threads want -----------------------------------------------------------------------
 */

bool http_todo(struct http_call *call, unsigned want)
{
    struct http *http = call->http;
    must_hold(&http->lock);
    bool was_empty = !http->todo;
    bool listed = call->wants != 0;
    call->wants |= want;
    if (listed)
        return false;
    call->todo_next = NULL;
    if (http->todo)
        http->todo_last->todo_next = call;
    else
        http->todo = call;
    http->todo_last = http_call_retain(call);
    return was_empty;
}

void http_wake(struct http *http)
{
    const uint64_t one = 1;
    ssize_t written = write(http->wake_fd, &one, sizeof one);
    (void)written; /* full: it wakes anyhow */
}

static void leave(struct http_call *call)
{
    struct http *http = call->http;
    http_transfer_drop(call);
    http_host_leave(call);
    wheel_remove(http->deadlines, &call->deadline);
}

/* Over; the thread's reference goes. */
static void finish(struct http_call *call, const struct err *err)
{
    leave(call);
    DL_DELETE(call->http->calls, call);
    http_call_finish(call, err);
}

static void finish_without_memory(struct http_call *call)
{
    struct err err;
    err_set(&err, ERR_MEMORY, "%s %s: no memory for a call", call->method, call->url.shown);
    finish(call, &err);
}

static uint64_t tick_of(uint64_t ns)
{
    return (ns + (uint64_t)NS_PER_MS - 1) / (uint64_t)NS_PER_MS;
}

static void begin_call(struct http_call *call)
{
    struct http *http = call->http;
    http_call_retain(call);
    DL_APPEND(http->calls, call);
    wheel_add(http->deadlines, &call->deadline,
              tick_of(clock_now_ns() + (uint64_t)call->request.timeout_ns));
    if (!http_host_enter(call))
        finish_without_memory(call);
}

static void end_transfer(struct http_call *call, CURLcode code)
{
    struct err err;
    bool goes_on = http_transfer_end(call, code, &err);
    http_transfer_drop(call);
    http_host_leave(call);
    if (!goes_on)
        finish(call, err.code ? &err : NULL);
    else if (!http_host_enter(call))
        finish_without_memory(call);
}

/* What libcurl had read already comes at once, and may be too much. */
static void go_on(struct http_call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    CURLcode code = curl_easy_pause(call->easy, CURLPAUSE_CONT);
    if (code != CURLE_OK)
        end_transfer(call, code);
}

static void attend(struct http_call *call, unsigned wants)
{
    struct err err;
    if (wants & WANT_START)
        begin_call(call);
    if (call->ended)
        return;
    if (wants & WANT_CANCEL) {
        err_set(&err, ERR_CANCELLED, "%s %s: cancelled", call->method, call->url.shown);
        finish(call, &err);
    } else if (wants & WANT_MORE) {
        go_on(call);
    }
}

/* The first that wants something, with the list's reference; NULL: nobody does. */
static struct http_call *take_todo(struct http *http, unsigned *wants)
{
    mutex_lock(&http->lock);
    struct http_call *call = http->todo;
    if (call) {
        http->todo = call->todo_next;
        *wants = call->wants;
        call->wants = 0;
    }
    mutex_unlock(&http->lock);
    return call;
}

static void attend_all(struct http *http)
{
    struct http_call *call;
    unsigned wants;
    while ((call = take_todo(http, &wants))) {
        attend(call, wants);
        http_call_release(call);
    }
}

/* Turns ---------------------------------------------------------------------------------------- */

static void begin_ready(struct http *http)
{
    while (http->ready) {
        struct http_call *call = http->ready;
        struct err err;
        DL_DELETE2(http->ready, call, ready_prev, ready_next);
        call->ready = false;
        if (http_transfer_begin(call, &err) != 0)
            finish(call, &err);
    }
}

static void end_transfers(struct http *http)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(http->multi, &left))) {
        char *call = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        end_transfer((struct http_call *)(void *)call, code);
    }
}

static void end_late(struct http *http)
{
    struct wheel_timer *timer;
    wheel_advance(http->deadlines, clock_now_ns() / (uint64_t)NS_PER_MS);
    while ((timer = wheel_take(http->deadlines))) {
        struct http_call *call = container_of(timer, struct http_call, deadline);
        struct err err;
        http_transfer_late(call, &err);
        finish(call, &err);
    }
}

/* libcurl's sockets and timer ------------------------------------------------------------------ */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *owner, void *kept)
{
    const struct http *http = owner;
    struct epoll_event event = {.data.fd = fd};
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    /* It may have closed one and got the same number again without a word between. */
    int how = kept ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(http->epoll_fd, how, fd, &event) != 0 && (errno == ENOENT || errno == EEXIST))
        epoll_ctl(http->epoll_fd, errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
    curl_multi_assign(http->multi, fd, owner); /* `kept` from now on */
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *owner)
{
    struct http *http = owner;
    (void)multi;
    http->curl_due_ns =
        timeout_ms < 0 ? UINT64_MAX : clock_now_ns() + (uint64_t)timeout_ms * (uint64_t)NS_PER_MS;
    return 0;
}

static int patience_ms(const struct http *http)
{
    uint64_t now = clock_now_ns(), due = http->curl_due_ns;
    uint64_t tick = wheel_next(http->deadlines);
    if (tick < due / (uint64_t)NS_PER_MS)
        due = tick * (uint64_t)NS_PER_MS;
    bool surplus = http_kept_surplus(http);
    if (due == UINT64_MAX)
        return surplus ? QUIET_MS : -1;
    if (due <= now)
        return 0;
    uint64_t ms = tick_of(due - now), most = surplus ? QUIET_MS : 60000;
    return (int)(ms < most ? ms : most);
}

static void run_curl_timer(struct http *http)
{
    int running;
    if (http->curl_due_ns > clock_now_ns())
        return;
    http->curl_due_ns = UINT64_MAX;
    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static void wait_for_events(struct http *http)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int running;
    int count = epoll_wait(http->epoll_fd, events, EVENTS_AT_ONCE, patience_ms(http));
    for (int i = 0; i < count; i++) {
        uint32_t seen = events[i].events;
        int bits = (seen & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (seen & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (seen & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        uint64_t woken;
        if (events[i].data.fd == http->wake_fd) {
            ssize_t got = read(http->wake_fd, &woken, sizeof woken);
            (void)got;
        } else {
            curl_multi_socket_action(http->multi, events[i].data.fd, bits, &running);
        }
    }
    run_curl_timer(http);
    if (count == 0)
        http_kept_trim(http);
}

/* The thread ------------------------------------------------------------------------------------
 */

static bool is_stopping(struct http *http)
{
    mutex_lock(&http->lock);
    bool stopping = http->stopping;
    mutex_unlock(&http->lock);
    return stopping;
}

static void end_all(struct http *http)
{
    while (http->calls) {
        struct http_call *call = http->calls;
        struct err err;
        err_set(&err, ERR_CLOSED, "%s %s: the host stops", call->method, call->url.shown);
        finish(call, &err);
    }
}

static void *run_http(void *arg)
{
    struct http *http = arg;
    for (;;) {
        attend_all(http);
        if (is_stopping(http))
            break;
        do {
            begin_ready(http);
            end_late(http);
            end_transfers(http);
        } while (http->ready);
        http_kept_bound(http);
        wait_for_events(http);
        end_transfers(http);
    }
    /* What was asked for before it was seen that it stops. */
    attend_all(http);
    end_all(http);
    return NULL;
}

bool http_start(struct http *http)
{
    must_hold(&http->lock);
    if (!http->started)
        http->started = thread_start(&http->thread, "mb-http", run_http, http, NULL) == 0;
    return http->started;
}

/* Its life ------------------------------------------------------------------------------------- */

/* libcurl opens a pair of sockets for a way to wake it which is not ours, and programs that a
 * script starts would inherit them. They have the lowest numbers that were free. */
#define PAIR_WITHIN 16
static void close_pair_on_exec(int lowest)
{
    for (int fd = lowest; lowest >= 0 && fd < lowest + PAIR_WITHIN; fd++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        if (getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
            address.ss_family == AF_UNIX)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

static bool open_curl(struct http *http)
{
    int lowest = fcntl(http->wake_fd, F_DUPFD_CLOEXEC, 0);
    if (lowest >= 0)
        close(lowest);
    http->multi = curl_multi_init();
    close_pair_on_exec(lowest);
    http->share = curl_share_init();
    if (!http->multi || !http->share)
        return false;
    curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    http_kept_open(http);
    return true;
}

static bool open_descriptors(struct http *http)
{
    struct epoll_event event = {.events = EPOLLIN};
    http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    event.data.fd = http->wake_fd;
    return http->epoll_fd >= 0 && http->wake_fd >= 0 &&
           epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, http->wake_fd, &event) == 0;
}

/* The variable's value, or NULL when it is not set or empty; of strdup. */
static char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? strdup(value) : NULL;
}

/* As libcurl reads them; it asks for each of them at each call. */
static bool names_proxy(void)
{
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY"};
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        found = found || (value && *value);
    }
    return found;
}

struct http *http_new(const struct http_options *options, struct err *err)
{
    struct http *http = calloc(1, sizeof *http);
    if (http && options->stand_in) {
        mutex_init(&http->lock);
        http->stand_in = options->stand_in;
        return http;
    }
    if (!http || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(http);
        err_set(err, ERR_SYSTEM, "libcurl cannot be used");
        return NULL;
    }
    mutex_init(&http->lock);
    http->wake_fd = http->epoll_fd = -1;
    http->curl_due_ns = UINT64_MAX;
    http->per_host = options->per_host;
    http->agent = strdup(options->agent);
    /* As all that stands on OpenSSL reads them; libcurl has a bundle of its own. */
    http->ca = variable("SSL_CERT_FILE");
    http->ca_folder = variable("SSL_CERT_DIR");
    http->proxied = names_proxy();
    http->deadlines = wheel_new(clock_now_ns() / (uint64_t)NS_PER_MS);
    if (http->agent && http->deadlines && open_descriptors(http) && open_curl(http))
        return http;
    http_free(http);
    err_set(err, ERR_SYSTEM, "no memory or no descriptor for HTTP");
    return NULL;
}

void http_set_per_host(struct http *http, int per_host)
{
    atomic_store(&http->per_host, per_host);
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    mutex_lock(&http->lock);
    bool ends = http->started && !http->stopping;
    http->stopping = true;
    mutex_unlock(&http->lock);
    if (!ends)
        return;
    http_wake(http);
    thread_join(http->thread);
    /* What wanted more while the thread ended has heard of the end. */
    struct http_call *call;
    unsigned wants;
    while ((call = take_todo(http, &wants)))
        http_call_release(call);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    http_stop(http);
    if (http->stand_in) {
        mutex_destroy(&http->lock);
        free(http);
        return;
    }
    while (http->handle_count)
        curl_easy_cleanup(http->handles[--http->handle_count]);
    curl_multi_cleanup(http->multi);
    curl_share_cleanup(http->share);
    if (http->wake_fd >= 0)
        close(http->wake_fd);
    if (http->epoll_fd >= 0)
        close(http->epoll_fd);
    wheel_free(http->deadlines);
    free(http->agent);
    free(http->ca);
    free(http->ca_folder);
    mutex_destroy(&http->lock);
    curl_global_cleanup();
    free(http);
}

void http_count(struct http *http, struct http_counts *counts)
{
    mutex_lock(&http->lock);
    *counts = http->counts;
    mutex_unlock(&http->lock);
}
