/* A datagram for each message, to a socket of the file system or an abstract one. */
#include "base/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct notify {
    int fd; /* owned */
    struct sockaddr_un address;
    socklen_t size;
    uint64_t watchdog_ns;
};

#define NS_PER_US 1000

/* A number of decimal digits alone; 0: it is none, or too large. */
static uint64_t number_of(const char *text)
{
    if (!text || !*text || strspn(text, "0123456789") != strlen(text))
        return 0;
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    return errno ? 0 : number;
}

static uint64_t watchdog_ns(void)
{
    const char *pid = getenv("WATCHDOG_PID");
    uint64_t us = number_of(getenv("WATCHDOG_USEC"));
    if (pid && number_of(pid) != (uint64_t)getpid()) /* somebody else is watched */
        return 0;
    return us < UINT64_MAX / NS_PER_US ? us * NS_PER_US : 0;
}

/* "/path", or "@name" for an abstract one, which begins with a NUL and ends with its last byte. */
static int find_address(struct notify *notify, const char *name, struct err *err)
{
    size_t len = strlen(name), end = name[0] == '/'; /* the NUL behind a path counts */
    if (name[0] != '/' && name[0] != '@')
        return err_set(err, ERR_INVALID, "NOTIFY_SOCKET is \"%s\", which is no path and no @name",
                       name);
    if (len < 2 || len + end > sizeof notify->address.sun_path)
        return err_set(err, ERR_INVALID, "NOTIFY_SOCKET is \"%s\": a socket has no such name",
                       name);
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, name, len);
    notify->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + end);
    if (name[0] == '@')
        notify->address.sun_path[0] = '\0';
    return 0;
}

static struct notify *open_socket(const char *name, struct err *err)
{
    struct notify *notify = calloc(1, sizeof *notify);
    if (!notify) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    notify->watchdog_ns = watchdog_ns();
    notify->fd = -1;
    if (find_address(notify, name, err) == 0) {
        notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (notify->fd < 0)
            err_set(err, ERR_SYSTEM, "NOTIFY_SOCKET: %s", strerror(errno));
    }
    if (notify->fd >= 0)
        return notify;
    free(notify);
    return NULL;
}

struct notify *notify_open(struct err *err)
{
    const char *name = getenv("NOTIFY_SOCKET");
    err->code = ERR_NONE;
    struct notify *notify = name && *name ? open_socket(name, err) : NULL;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return notify;
}

uint64_t notify_watchdog_ns(const struct notify *notify)
{
    return notify->watchdog_ns;
}

int notify_send(const struct notify *notify, const char *lines)
{
    ssize_t sent = sendto(notify->fd, lines, strlen(lines), MSG_NOSIGNAL | MSG_DONTWAIT,
                          (const struct sockaddr *)&notify->address, notify->size);
    if (sent >= 0)
        return 0;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? ERR_FULL : ERR_SYSTEM;
}

void notify_close(struct notify *notify)
{
    if (!notify)
        return;
    close(notify->fd);
    free(notify);
}
