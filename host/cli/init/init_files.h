/* init_files - what `moonbus init` writes, inside the binary. Made by embed.cmake while building.
 */
#ifndef MOONBUS_CLI_INIT_INIT_FILES_H
#define MOONBUS_CLI_INIT_INIT_FILES_H

#include <stddef.h>

struct init_file {
    const char *set;   /* "project", "handler", "types", or the name of an example */
    const char *path;  /* in the project */
    const char *bytes; /* static */
    size_t size;
};

extern const struct init_file init_files[];
extern const int init_file_count;

#endif
