/* regular - opens script files by name, if they are regular files: opening a FIFO would wait for a
 * writer, and reading a device may never end. Any thread. */
#ifndef MOONBUS_BASE_REGULAR_H
#define MOONBUS_BASE_REGULAR_H

#include <stdbool.h>

/* Instead of errno. */
#define REGULAR_NOT (-1)

/* A descriptor to read from, closed on exec; or -1 with *error. Never waits for anybody. */
int regular_open(const char *path, int *error);

/* Is there something else than a regular file or a folder? */
bool regular_special(const char *path);

/* As strerror. */
const char *regular_error(int error);

#endif
