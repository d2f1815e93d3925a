/* The server of a `moonbus dev` that runs in this folder, or above it. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* The first line of the file; false when there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    if (ok)
        line[strcspn(line, "\r\n")] = '\0';
    return ok && *line;
}

bool cli_find_url(char *path, size_t path_size, char *url, size_t url_size)
{
    static const char *const places[] = {".moonbus/url", "handlers/.moonbus/url",
                                         "examples/.moonbus/url"};
    char folder[PATH_MAX];
    if (!getcwd(folder, sizeof folder))
        return false;
    const char *prefix = "";
    for (;;) {
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            snprintf(path, path_size, "%s%s%s", prefix, *prefix ? "/" : "", places[i]);
            if (read_line(path, url, url_size))
                return true;
        }
        char *slash = strrchr(folder, '/');
        if (!slash || slash == folder)
            return false;
        *slash = '\0';
        prefix = folder;
    }
}
