/* log_output - a backlog between the log and a reader that may be slow. */
#include "base/log_output.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"

#define OUTPUT STDERR_FILENO
#define BACKLOG_BYTES ((size_t)4 << 20)
#define PIECE ((size_t)4096) /* a pipe that poll calls writable takes so much without blocking */

static struct {
    struct mutex lock; /* guards all of it; a leaf */
    struct cond more, empty;
    char *backlog; /* owned, BACKLOG_BYTES and a line; NULL until it is needed */
    size_t capacity, start, len;
    bool started, broken;
    uint64_t lost;
} output = {.lock = MUTEX_STATIC, .more = COND_STATIC, .empty = COND_STATIC};

static bool writable(int timeout_ms)
{
    struct pollfd ready = {.fd = OUTPUT, .events = POLLOUT};
    return poll(&ready, 1, timeout_ms) > 0;
}

/* True: all of what can be written has been, *done of it. False: no room now. */
static bool write_piece(const char *bytes, size_t len, size_t *done)
{
    ssize_t wrote = write(OUTPUT, bytes, len);
    if (wrote < 0 && errno == EINTR)
        wrote = 0;
    else if (wrote < 0 && errno == EAGAIN)
        return false;
    else if (wrote < 0)
        wrote = (ssize_t)len; /* nobody will ever read it */
    *done += (size_t)wrote;
    return true;
}

/* Files are always ready; so a line goes there in one piece. */
static bool is_file(void)
{
    struct stat info;
    return fstat(OUTPUT, &info) == 0 && S_ISREG(info.st_mode);
}

/* With the lock held: what can be written without waiting. */
static size_t write_now(const char *bytes, size_t len)
{
    size_t done = 0, most = len > PIECE && !is_file() ? PIECE : len;
    while (done < len) {
        size_t piece = len - done < most ? len - done : most;
        if (!writable(0) || !write_piece(bytes + done, piece, &done))
            break;
    }
    return done;
}

/* Writes the backlog. Only this thread waits for the reader. */
static void *run(void *arg)
{
    (void)arg;
    char piece[PIECE];
    mutex_lock(&output.lock);
    for (;;) {
        while (output.len == 0) {
            cond_broadcast(&output.empty);
            cond_wait(&output.more, &output.lock);
        }
        size_t len = output.len < PIECE ? output.len : PIECE, done = 0;
        memcpy(piece, output.backlog + output.start, len);
        mutex_unlock(&output.lock);
        if (writable(-1))
            write_piece(piece, len, &done);
        mutex_lock(&output.lock);
        output.start += done;
        output.len -= done;
    }
    return NULL;
}

/* With the lock held. */
static void start(void)
{
    struct thread thread;
    output.started = true;
    output.broken = thread_start(&thread, "log", run, NULL, NULL) != 0;
    if (!output.broken)
        thread_detach(thread);
}

/* With the lock held. Of a line that has been begun the rest is kept in any case. */
static void keep(const char *bytes, size_t len, bool begun)
{
    if (!output.started)
        start();
    if (output.broken || (!begun && output.len + len > BACKLOG_BYTES)) {
        output.lost++;
        return;
    }
    if (output.start > 0) {
        memmove(output.backlog, output.backlog + output.start, output.len);
        output.start = 0;
    }
    if (output.len + len > output.capacity) {
        size_t capacity = output.capacity ? output.capacity : 65536;
        while (capacity < output.len + len)
            capacity *= 2;
        char *backlog = realloc(output.backlog, capacity);
        if (!backlog) {
            output.lost++;
            return;
        }
        output.backlog = backlog;
        output.capacity = capacity;
    }
    memcpy(output.backlog + output.len, bytes, len);
    output.len += len;
    cond_signal(&output.more);
}

void log_output_write(const char *bytes, size_t len)
{
    mutex_lock(&output.lock);
    size_t done = output.len == 0 ? write_now(bytes, len) : 0;
    if (done < len)
        keep(bytes + done, len - done, done > 0);
    mutex_unlock(&output.lock);
}

void log_output_flush(int timeout_ms)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    mutex_lock(&output.lock);
    while (output.len > 0) {
        if (!cond_wait_until(&output.empty, &output.lock, until_ns))
            break;
    }
    mutex_unlock(&output.lock);
}

uint64_t log_output_take_lost(void)
{
    mutex_lock(&output.lock);
    uint64_t lost = output.len == 0 ? output.lost : 0;
    output.lost -= lost;
    mutex_unlock(&output.lock);
    return lost;
}
