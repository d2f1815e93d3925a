/* Opening without waiting, and looking at what was opened. */
#include "base/regular.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int regular_open(const char *path, int *error)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        *error = errno == ENXIO ? REGULAR_NOT : errno; /* a socket */
        return -1;
    }
    *error = fstat(fd, &info)        ? errno
             : S_ISDIR(info.st_mode) ? EISDIR
             : S_ISREG(info.st_mode) ? 0
                                     : REGULAR_NOT;
    if (*error == 0)
        return fd;
    close(fd);
    return -1;
}

bool regular_special(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

const char *regular_error(int error)
{
    return error == REGULAR_NOT ? "not a regular file" : strerror(error);
}
