/* path - the way to a value in a table or in JSON, for messages: items[2].price.
 *
 *   struct path path;
 *   path_begin(&path);
 *   for (place = ...; place && path_step_key(&path, place->key, len, !place->up); place =
 * place->up)
 *       ;
 *
 * It is written from its end to its beginning, for a walk goes from the value back to the root. A
 * path that is too long lacks its beginning. Pure, no allocation; any thread. */
#ifndef MOONBUS_BASE_PATH_H
#define MOONBUS_BASE_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Its fields are path's own. */
struct path {
    size_t start;
    bool full;
    char bytes[200]; /* enough for what a person wrote, and for two of the longest keys shown */
};

/* Empty: the root. */
void path_begin(struct path *path);

/* Put a step before the others: .price (price, where it is the first of the whole path), or ["a
 * key"]; [2]; what the caller has written. False: there is no room, and none for what would follow.
 */
bool path_step_key(struct path *path, const char *key, size_t len, bool first);
bool path_step_index(struct path *path, double index);
bool path_step_text(struct path *path, const char *text);

/* Ends with a NUL; the path's own. */
const char *path_text(const struct path *path);

/* ": ", or nothing behind the root. */
const char *path_colon(const struct path *path);

/* May the key stand behind a dot, as names of Lua may? */
bool path_is_name(const char *key, size_t len);

#endif
