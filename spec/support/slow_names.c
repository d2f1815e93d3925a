/* slow_names - preloaded into a host, it stands before the system's resolver: the names that end in
 * ".slow" are not answered for a minute, and those that end in ".counted" are 127.0.0.1 after a
 * tenth of a second, of which each look-up leaves a byte in the file SLOW_NAMES_COUNT. */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static bool ends_with(const char *name, const char *end)
{
    size_t len = name ? strlen(name) : 0, end_len = strlen(end);
    return len >= end_len && strcmp(name + len - end_len, end) == 0;
}

static void count(void)
{
    const char *path = getenv("SLOW_NAMES_COUNT");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    ssize_t written = write(fd, "x", 1);
    (void)written;
    close(fd);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (ends_with(name, ".slow")) {
        sleep(60);
        return EAI_AGAIN;
    }
    if (!ends_with(name, ".counted"))
        return real(name, service, hints, result);
    count();
    usleep(100000);
    return real("127.0.0.1", service, hints, result);
}
