/* port_owner - from a port to the socket's inode, and from that to a process that has it. */
#include "app/port_owner.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTENING 0x0A /* TCP_LISTEN, as /proc/net/tcp writes it */

/* "  0: 0100007F:107E 00000000:0000 0A ... uid timeout inode"; 0: none. */
static unsigned long inode_in(const char *table, int port)
{
    char line[512];
    unsigned long found = 0;
    FILE *file = fopen(table, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        unsigned at, state;
        unsigned long inode;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &at, &state,
                   &inode) == 3 &&
            (int)at == port && state == LISTENING)
            found = inode;
    }
    if (file)
        fclose(file);
    return found;
}

static bool has_socket(const char *pid, const char *socket)
{
    char path[300], target[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *folder = opendir(path);
    const struct dirent *entry;
    while (folder && !found && (entry = readdir(folder))) {
        ssize_t len = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        found = strcmp(target, socket) == 0;
    }
    if (folder)
        closedir(folder);
    return found;
}

static void describe(const char *pid, char *buf, size_t size)
{
    char path[64], name[64] = "?", folder[PATH_MAX] = "";
    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    FILE *file = fopen(path, "re");
    if (file && fgets(name, sizeof name, file))
        name[strcspn(name, "\n")] = '\0';
    if (file)
        fclose(file);
    snprintf(path, sizeof path, "/proc/%.20s/cwd", pid);
    ssize_t len = readlink(path, folder, sizeof folder - 1);
    folder[len > 0 ? len : 0] = '\0';
    snprintf(buf, size, " by %s, process %.20s%s%.200s", name, pid, len > 0 ? " in " : "", folder);
}

char *port_owner(int port, char *buf, size_t size)
{
    char socket[64];
    unsigned long inode = inode_in("/proc/net/tcp", port);
    if (!inode)
        inode = inode_in("/proc/net/tcp6", port);
    *buf = '\0';
    DIR *processes = inode ? opendir("/proc") : NULL;
    const struct dirent *entry;
    snprintf(socket, sizeof socket, "socket:[%lu]", inode);
    while (processes && !*buf && (entry = readdir(processes))) {
        if (isdigit((unsigned char)*entry->d_name) && has_socket(entry->d_name, socket))
            describe(entry->d_name, buf, size);
    }
    if (processes)
        closedir(processes);
    return buf;
}
