/* admin_listen - where the admin endpoint listens, and how it accepts connections.
 *
 *   listening sockets ─▶ the main loop ─▶ accept ─▶ libmicrohttpd
 *                          │                └─ no descriptor left: by the one that is in reserve
 *                          └─ paused while there is no room at all
 *
 * libmicrohttpd's own accept is not used: it listens at one address only, and when descriptors run
 * out it spins, or, with a connection open, never accepts again. A health check has to be answered
 * even then, or a supervisor would kill the host for files that its scripts have opened. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app/admin_private.h"
#include "app/port_owner.h"
#include "base/value.h"

/* Then the others have their turn. */
#define ADMITS_AT_ONCE 16
#define WARN_AGAIN_NS (60 * NS_PER_S)

/* --- who comes in --- */

static bool is_out_of_room(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void warn_of_no_room(struct admin *admin, int error)
{
    struct rlimit limit = {0};
    uint64_t now = clock_now_ns();
    if (admin->warned_ns && now - admin->warned_ns < WARN_AGAIN_NS)
        return;
    admin->warned_ns = now;
    getrlimit(RLIMIT_NOFILE, &limit);
    log_warn("admin: no room for a connection: %s (open files: at most %llu, by ulimit -n or "
             "LimitNOFILE=); one at a time is still answered",
             strerror(error), (unsigned long long)limit.rlim_cur);
}

static int accept_one(int listening, struct sockaddr_storage *from, socklen_t *len)
{
    *len = sizeof *from;
    return accept4(listening, (struct sockaddr *)from, len, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* -1: nobody, or no room, by errno. */
static int let_in(struct admin *admin, int listening, struct sockaddr_storage *from, socklen_t *len)
{
    int fd = accept_one(listening, from, len);
    if (fd >= 0 && fd == admin->lent)
        admin->lent = -1; /* that one was refused, and never told of */
    if (fd >= 0 || !is_out_of_room(errno))
        return fd;
    warn_of_no_room(admin, errno);
    if (admin->reserve < 0)
        return -1;
    close(admin->reserve);
    admin->reserve = -1;
    fd = accept_one(listening, from, len);
    admin->lent = fd;
    return fd;
}

static void pause_listening(struct admin *admin)
{
    admin->paused = true;
    for (int i = 0; i < admin->listener_count; i++)
        uv_poll_stop(&admin->listeners[i].poll);
}

/* False: there is nobody more, or no room. */
static bool admit(struct admin_listener *listener)
{
    struct admin *admin = listener->admin;
    struct sockaddr_storage from;
    socklen_t len;
    if (admin->visit_count >= CONNECTIONS_MOST) {
        pause_listening(admin);
        return false;
    }
    int fd = let_in(admin, listener->fd, &from, &len);
    if (fd < 0) {
        if (is_out_of_room(errno))
            pause_listening(admin);
        return false;
    }
    MHD_add_connection(admin->daemon, fd, (const struct sockaddr *)&from, len); /* owns fd */
    return true;
}

static void on_visitors(uv_poll_t *poll, int status, int events)
{
    struct admin_listener *listener = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < ADMITS_AT_ONCE && admit(listener); i++)
        ;
    admin_run(listener->admin);
}

void admin_listen_again(struct admin *admin)
{
    if (admin->reserve < 0)
        admin->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (!admin->paused || admin->reserve < 0 || admin->visit_count >= CONNECTIONS_MOST)
        return;
    admin->paused = false;
    for (int i = 0; i < admin->listener_count; i++)
        uv_poll_start(&admin->listeners[i].poll, UV_READABLE, on_visitors);
}

/* --- where --- */

bool admin_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

static bool is_unspecified(const struct addrinfo *address)
{
    return address->ai_family == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address->ai_addr)->sin6_addr);
}

/* "[::]" is all of both families, whatever the system's own default for it is; where none is named
 * each family has a socket. A port on which connections of a host that has just ended linger is
 * free all the same. */
static int open_socket(struct admin *admin, const struct addrinfo *address)
{
    int yes = 1, alone = !*admin->host || !is_unspecified(address);
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &alone, sizeof alone);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    admin->loopback =
        (admin->listener_count == 0 || admin->loopback) && admin_is_loopback(address->ai_addr);
    admin->listeners[admin->listener_count++] = (struct admin_listener){.admin = admin, .fd = fd};
    return 0;
}

/* "127.0.0.1:8223", "[::1]:8223", "localhost:8223"; ":8223" is at all addresses. */
static const char *split(struct admin *admin, const char *address)
{
    const char *port = strrchr(address, ':');
    size_t len = port ? (size_t)(port - address) : 0;
    bool brackets = len >= 2 && address[0] == '[' && address[len - 1] == ']';
    snprintf(admin->host, sizeof admin->host, "%.*s", (int)(brackets ? len - 2 : len),
             address + brackets);
    return port ? port + 1 : NULL;
}

/* /etc/hosts may name one twice. */
static bool came_before(const struct addrinfo *first, const struct addrinfo *address)
{
    for (; first != address; first = first->ai_next) {
        if (first->ai_addrlen == address->ai_addrlen &&
            memcmp(first->ai_addr, address->ai_addr, address->ai_addrlen) == 0)
            return true;
    }
    return false;
}

/* At each address that the name has; that the machine lacks a family of them is no fault, that one
 * is taken is. */
static int listen_at_all(struct admin *admin, const struct addrinfo *first)
{
    int error = EADDRNOTAVAIL;
    for (const struct addrinfo *at = first; at; at = at->ai_next) {
        if (admin->listener_count == LISTENERS_MOST || came_before(first, at) ||
            open_socket(admin, at) == 0)
            continue;
        error = errno;
        if (error != EADDRNOTAVAIL && error != EAFNOSUPPORT)
            return error;
    }
    return admin->listener_count > 0 ? 0 : error;
}

int admin_listen(struct admin *admin, struct err *err)
{
    const char *address = admin->app->config->admin, *port = split(admin, address);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char owner[400];
    int code = getaddrinfo(*admin->host ? admin->host : NULL, port, &hints, &found);
    if (code)
        return err_set(err, ERR_INVALID, "admin %s: %s", address, gai_strerror(code));
    int error = listen_at_all(admin, found);
    freeaddrinfo(found);
    if (error == EADDRINUSE)
        return err_set(err, ERR_SYSTEM, "admin %s: cannot listen: %s%s", address, strerror(error),
                       port_owner(atoi(port), owner, sizeof owner));
    if (error)
        return err_set(err, ERR_SYSTEM, "admin %s: cannot listen: %s", address, strerror(error));
    return 0;
}

int admin_listen_begin(struct admin *admin)
{
    for (int i = 0; i < admin->listener_count; i++) {
        struct admin_listener *listener = &admin->listeners[i];
        if (uv_poll_init(&admin->app->loop, &listener->poll, listener->fd) != 0)
            return ERR_SYSTEM;
        listener->poll.data = listener;
    }
    admin->paused = true;
    admin_listen_again(admin);
    return 0;
}

void admin_listen_end(struct admin *admin)
{
    for (int i = 0; i < admin->listener_count; i++) {
        if (admin->listeners[i].poll.data)
            uv_close((uv_handle_t *)&admin->listeners[i].poll, NULL);
        close(admin->listeners[i].fd);
    }
    admin->listener_count = 0;
    if (admin->reserve >= 0)
        close(admin->reserve);
    admin->reserve = -1;
}
