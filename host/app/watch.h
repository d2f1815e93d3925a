/* watch - calls back when a watched file or folder has changed: uv_fs_event on the folders, a
 * debounce, then a comparison of content hashes, so that a touched file is no change. It notices
 * folders that are replaced as a whole (a switched symbolic link). Owner: the main thread. */
#ifndef MOONBUS_APP_WATCH_H
#define MOONBUS_APP_WATCH_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

struct watch;

/* on_change: once after each burst; paths: those that changed, appeared or vanished. Borrowed. */
struct watch *watch_new(uv_loop_t *loop, uint64_t debounce_ms,
                        void (*on_change)(void *owner, const char *const *paths, int count),
                        void *owner);
/* Watches a file, or a folder (its *.lua files). Again for the same path: no effect. 0, or
 * ERR_SYSTEM: the system has no watch left. */
int watch_add(struct watch *watch, const char *path);
/* Closes its handles; the loop frees it. NULL is allowed. */
void watch_close(struct watch *watch);

/* A hash of a file's content; 0 when it cannot be read. Any thread. */
uint64_t watch_hash_file(const char *path);
/* The same of a content; never 0. */
uint64_t watch_hash(const char *text, size_t len);

/* The names of a folder's handler files, sorted: *.lua, except hidden ones and *_test.lua. NULL,
 * with errno: the folder cannot be read. Any thread; free with watch_free_names. */
char **watch_list_folder(const char *path, int *count);
void watch_free_names(char **names, int count);

#endif
