/* The sockets of nats.c while they are being connected. */
#include "bus/link/nats_watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/value.h"

#define PERIOD_MIN_NS (20 * NS_PER_MS)
#define PERIOD_MAX_NS (500 * NS_PER_MS)

/* Calls look for each descriptor above the standard ones. */
static void each_descriptor(void (*look)(int fd, void *closure), void *closure)
{
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && fd != dirfd(folder))
            look(fd, closure);
    }
    if (folder)
        closedir(folder);
}

/* --- of a connection that is made --- */

struct local {
    const char *ip;
    int port;
    uint64_t rtt_ns; /* found */
};

static bool is_bound_to(int fd, const struct local *local)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char host[NI_MAXHOST], service[NI_MAXSERV];
    return getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
           getnameinfo((struct sockaddr *)&address, size, host, sizeof host, service,
                       sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
           atoi(service) == local->port && strncmp(host, local->ip, strlen(local->ip)) == 0;
}

static void close_if_bound(int fd, void *closure)
{
    if (is_bound_to(fd, closure))
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void read_rtt_if_bound(int fd, void *closure)
{
    struct local *local = closure;
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (!local->rtt_ns && is_bound_to(fd, local) &&
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
        local->rtt_ns = (uint64_t)info.tcpi_rtt * 1000;
}

uint64_t nats_watch_rtt_ns(natsConnection *nc)
{
    char *ip = NULL;
    int port = 0;
    if (natsConnection_GetLocalIPAndPort(nc, &ip, &port) != NATS_OK)
        return 0;
    struct local local = {.ip = ip, .port = port};
    each_descriptor(read_rtt_if_bound, &local);
    free(ip);
    return local.rtt_ns;
}

void nats_watch_close_on_exec(natsConnection *nc)
{
    char *ip = NULL;
    int port = 0;
    if (natsConnection_GetLocalIPAndPort(nc, &ip, &port) != NATS_OK)
        return;
    struct local local = {.ip = ip, .port = port};
    each_descriptor(close_if_bound, &local);
    free(ip);
}

/* --- of one that is being made --- */

struct looking {
    struct nats_watch *watch;
    uint64_t now_ns, most_ns;
};

static bool has_port(const struct nats_watch *watch, unsigned port)
{
    for (int i = 0; i < NATS_WATCH_PORTS && watch->ports[i]; i++) {
        if (watch->ports[i] == port)
            return true;
    }
    return false;
}

static bool is_being_connected(const struct nats_watch *watch, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer;
    socklen_t size = sizeof peer;
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || flags & FD_CLOEXEC || getpeername(fd, &peer.any, &size) != 0)
        return false;
    if (peer.any.sa_family == AF_INET)
        return has_port(watch, ntohs(peer.v4.sin_port));
    return peer.any.sa_family == AF_INET6 && has_port(watch, ntohs(peer.v6.sin6_port));
}

static void look_at(int fd, void *closure)
{
    struct looking *looking = closure;
    struct nats_watch *watch = looking->watch;
    struct stat stat;
    int slot = -1;
    if (!is_being_connected(watch, fd) || fstat(fd, &stat) != 0)
        return;
    for (int i = 0; i < NATS_WATCH_SEEN; i++) {
        if (watch->seen[i].inode == stat.st_ino) {
            slot = i;
            break;
        }
        if (!watch->seen[i].inode && slot < 0)
            slot = i;
    }
    if (slot < 0)
        return;
    if (watch->seen[slot].inode != stat.st_ino) {
        watch->seen[slot].inode = stat.st_ino;
        watch->seen[slot].since_ns = looking->now_ns;
    }
    watch->seen[slot].here = true;
    if (looking->now_ns - watch->seen[slot].since_ns < looking->most_ns)
        return;
    atomic_store(&watch->ended, true); /* first: who connects asks as soon as it has ended */
    shutdown(fd, SHUT_RDWR);
}

void nats_watch_look(struct nats_watch *watch, uint64_t now_ns, uint64_t most_ns)
{
    struct looking looking = {.watch = watch, .now_ns = now_ns, .most_ns = most_ns};
    each_descriptor(look_at, &looking);
    for (int i = 0; i < NATS_WATCH_SEEN; i++) {
        if (!watch->seen[i].here)
            watch->seen[i].inode = 0;
        watch->seen[i].here = false;
    }
}

void nats_watch_port(struct nats_watch *watch, unsigned port)
{
    for (int i = 0; i < NATS_WATCH_PORTS - 1; i++) {
        if (watch->ports[i] == port)
            return;
        if (!watch->ports[i]) {
            watch->ports[i] = (uint16_t)port;
            return;
        }
    }
}

uint64_t nats_watch_period_ns(uint64_t most_ns)
{
    uint64_t period = most_ns / 10;
    if (period < (uint64_t)PERIOD_MIN_NS)
        return PERIOD_MIN_NS;
    return period < (uint64_t)PERIOD_MAX_NS ? period : (uint64_t)PERIOD_MAX_NS;
}
