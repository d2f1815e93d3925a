/* flow - messages out and what comes of them back, as fast as the program under test goes.
 *
 * It speaks the protocol itself, on one thread: prepared blocks of PUBs out, lengths counted in.
 * With nats.c on both ways the generator took more of the machine than the program under test, and
 * that is what would have been measured (docs/PERFORMANCE.md has the figures). At most --window
 * messages are under way, so nothing is dropped anywhere; --per-mark says for how many messages one
 * comes back.
 *
 * --url --send SUBJECT --back SUBJECT --size BYTES --window N --per-mark N --warm-ms N --ms N
 * --count N: no more than so many; --subjects N: to "SUBJECT.00000" and so on, in turn */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bench.h"
#include "load/load.h"

#define BLOCK_BYTES ((size_t)64 << 10)
#define READ_BYTES ((size_t)256 << 10)
#define GIVE_UP_NS 5000000000LL

struct flow {
    int fd;
    char *block; /* `block_messages` PUBs of one length; the same one, or each subject's in turn */
    size_t message_bytes, block_messages, subjects;
    size_t next;              /* the message of the block that is written next, or is begun */
    size_t at;                /* how far into it the last write came */
    int64_t sent, marks;      /* messages whose first byte was written; messages that came back */
    int64_t window, per_mark; /* see above */
    int64_t count;            /* sends no more than that */
    char *in;                 /* what was read and not yet looked at */
    size_t in_len;
    size_t skip; /* bytes of a payload that are still to come */
};

static int dial(const char *url)
{
    char host[64];
    int port;
    if (sscanf(url, "nats://%63[0-9.]:%d", host, &port) != 2)
        bench_fail("--url is \"%s\": nats://A.B.C.D:PORT is wanted", url);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        bench_fail("connect to %s: %s", url, strerror(errno));
    struct timeval limit = {.tv_sec = 5}; /* for the greeting; nothing blocks later */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/* Subscribes, and waits for the PONG: the server knows of the subscription then. */
static void greet(struct flow *flow, const char *back)
{
    char text[512];
    int len = snprintf(text, sizeof text,
                       "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                       "\"protocol\":1,\"name\":\"load\"}\r\nSUB %s 1\r\nPING\r\n",
                       back);
    if (write(flow->fd, text, (size_t)len) != len)
        bench_fail("the server does not take a greeting");
    flow->in = malloc(READ_BYTES + 1);
    char *pong = NULL;
    while (!pong) {
        ssize_t count = read(flow->fd, flow->in + flow->in_len, READ_BYTES - flow->in_len);
        if (count <= 0)
            bench_fail("the server does not greet");
        flow->in_len += (size_t)count;
        pong = memmem(flow->in, flow->in_len, "\r\nPONG\r\n", 8);
    }
    /* Some servers send a second INFO after it. */
    flow->in_len -= (size_t)(pong + 8 - flow->in);
    memmove(flow->in, pong + 8, flow->in_len);
    fcntl(flow->fd, F_SETFL, fcntl(flow->fd, F_GETFL) | O_NONBLOCK);
}

static void make_block(struct flow *flow, const char *subject, size_t size)
{
    char head[256], *payload = bench_payload(size);
    for (size_t i = 0; i == 0 || i < flow->block_messages; i++) {
        int head_len = flow->subjects > 1
                           ? snprintf(head, sizeof head, "PUB %s.%05zu %zu\r\n", subject,
                                      i % flow->subjects, size)
                           : snprintf(head, sizeof head, "PUB %s %zu\r\n", subject, size);
        if (i == 0) {
            flow->message_bytes = (size_t)head_len + size + 2;
            flow->block_messages = BLOCK_BYTES / flow->message_bytes + 1;
            if (flow->subjects > 1) /* all of them, as often as it takes */
                flow->block_messages += flow->subjects - flow->block_messages % flow->subjects;
            flow->block = malloc(flow->block_messages * flow->message_bytes);
        }
        char *at = flow->block + i * flow->message_bytes;
        memcpy(at, head, (size_t)head_len);
        memcpy(at + head_len, payload, size);
        memcpy(at + head_len + size, "\r\n", 2);
    }
    free(payload);
}

static int64_t allowed(const struct flow *flow)
{
    int64_t room = flow->window - (flow->sent - flow->marks * flow->per_mark);
    int64_t left = flow->count - flow->sent;
    return room < left ? room : left;
}

static void write_some(struct flow *flow)
{
    int64_t messages = allowed(flow);
    size_t room = flow->block_messages - flow->next - (flow->at > 0);
    if (messages > (int64_t)room)
        messages = (int64_t)room;
    size_t rest = flow->at ? flow->message_bytes - flow->at : 0;
    size_t len = rest + (messages > 0 ? (size_t)messages * flow->message_bytes : 0);
    if (len == 0)
        return;
    const char *from = flow->block + flow->next * flow->message_bytes + flow->at;
    ssize_t count = write(flow->fd, from, len < BLOCK_BYTES ? len : BLOCK_BYTES);
    if (count < 0 && errno != EAGAIN)
        bench_fail("write: %s", strerror(errno));
    if (count <= 0)
        return;
    size_t end = flow->at + (size_t)count;
    size_t begun = (end + flow->message_bytes - 1) / flow->message_bytes;
    flow->sent += (int64_t)begun - (flow->at > 0);
    flow->at = end % flow->message_bytes;
    flow->next =
        flow->subjects > 1 ? (flow->next + end / flow->message_bytes) % flow->block_messages : 0;
}

/* One line of the protocol: a message is counted, a PING answered. */
static void on_line(struct flow *flow, const char *line, const char *end)
{
    if (*line == 'M' || *line == 'H') {
        const char *digits = end - 1; /* the last number: bytes that follow, headers included */
        while (digits > line && digits[-1] != ' ')
            digits--;
        flow->skip = strtoul(digits, NULL, 10) + 2;
        flow->marks++;
    } else if (*line == 'P' && line[1] == 'I') {
        if (flow->at == 0 && write(flow->fd, "PONG\r\n", 6) != 6)
            bench_fail("the server does not take a PONG");
    } else if (*line == '-') {
        bench_fail("the server says %.*s", (int)(end - line - 1), line);
    }
}

static void read_some(struct flow *flow)
{
    ssize_t count = read(flow->fd, flow->in + flow->in_len, READ_BYTES - flow->in_len);
    if (count == 0 || (count < 0 && errno != EAGAIN))
        bench_fail("the server has closed the connection");
    if (count < 0)
        return;
    const char *at = flow->in, *end = flow->in + flow->in_len + count;
    while (at < end) {
        if (flow->skip) {
            size_t here = (size_t)(end - at) < flow->skip ? (size_t)(end - at) : flow->skip;
            at += here;
            flow->skip -= here;
            continue;
        }
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline)
            break;
        on_line(flow, at, newline);
        at = newline + 1;
    }
    flow->in_len = (size_t)(end - at);
    memmove(flow->in, at, flow->in_len);
}

/* Sends (or not) and receives until the time has come, or everything has come back that can. */
static void run_until(struct flow *flow, int64_t until_ns, bool sending)
{
    int64_t marks = flow->marks, moved_ns = bench_now_ns();
    for (;;) {
        int64_t now_ns = bench_now_ns();
        if (now_ns >= until_ns)
            return;
        bool all_sent = !sending || flow->sent >= flow->count;
        if (all_sent && flow->at == 0 && flow->sent - flow->marks * flow->per_mark <= 0)
            return;
        if (flow->marks != marks) {
            marks = flow->marks;
            moved_ns = now_ns;
        } else if (now_ns - moved_ns > GIVE_UP_NS) {
            bench_fail("nothing comes back: %lld sent, %lld came", (long long)flow->sent,
                       (long long)flow->marks);
        }
        bool more = flow->at > 0 || (sending && allowed(flow) > 0);
        struct pollfd waiting = {.fd = flow->fd, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
        if (poll(&waiting, 1, 10) <= 0)
            continue;
        if (waiting.revents & POLLIN)
            read_some(flow);
        if (waiting.revents & POLLOUT) {
            if (!sending)
                flow->window = INT64_MIN / 2; /* only the rest of what was begun */
            write_some(flow);
        }
    }
}

int load_flow(void)
{
    struct flow flow = {.window = bench_number("window", 16384),
                        .per_mark = bench_number("per-mark", 1),
                        .subjects = (size_t)bench_number("subjects", 1),
                        .count = bench_number("count", LONG_MAX)};
    flow.fd = dial(bench_text("url", "nats://127.0.0.1:4222"));
    greet(&flow, bench_text("back", "bench.out"));
    make_block(&flow, bench_text("send", "bench.in"), (size_t)bench_number("size", 128));

    run_until(&flow, bench_now_ns() + bench_number("warm-ms", 500) * 1000000, true);
    int64_t marks = flow.marks, began_ns = bench_now_ns(), cpu_ns = bench_cpu_ns();
    run_until(&flow, began_ns + bench_number("ms", 2000) * 1000000, true);
    marks = flow.marks - marks;
    double seconds = (double)(bench_now_ns() - began_ns) / 1e9;
    double cpu = (double)(bench_cpu_ns() - cpu_ns) / 1e9 / seconds;
    /* What does not make a whole mark stays there. */
    run_until(&flow, bench_now_ns() + (flow.per_mark > 1 ? 300000000 : 2 * GIVE_UP_NS), false);
    printf("{\"rate\":%.0f,\"sent\":%lld,\"arrived\":%lld,\"cpu\":%.3f}\n",
           (double)(marks * flow.per_mark) / seconds, (long long)flow.sent,
           (long long)(flow.marks * flow.per_mark), cpu);
    return 0;
}
