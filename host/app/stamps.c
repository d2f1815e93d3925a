/* stamps - what a script was made of: each file that it read, or looked for in vain, and a hash of
 * what it held then. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "app/app_private.h"
#include "vm/texts.h"

static bool differs(const char *path, uint64_t hash)
{
    return watch_hash_file(path) != hash;
}

static uint64_t hash_of(const char *text, size_t len)
{
    return text ? watch_hash(text, len) : 0;
}

void stamps_clear(struct handler_file *file)
{
    for (int i = 0; i < file->stamp_count; i++)
        free(file->stamps[i].path);
    free(file->stamps);
    file->stamps = NULL;
    file->stamp_count = 0;
}

struct stamping {
    struct handler_file *file;
    int most;
};

static void add_stamp(void *owner, const char *path, const char *text, size_t len)
{
    const struct stamping *stamping = owner;
    struct handler_file *file = stamping->file;
    if (file->stamp_count == stamping->most)
        return; /* it came between the counting and this */
    struct stamp *stamp = &file->stamps[file->stamp_count];
    stamp->path = strdup(path);
    stamp->hash = hash_of(text, len);
    file->stamp_count += stamp->path != NULL;
}

bool stamps_take(struct app *app, struct handler_file *file, struct texts *read)
{
    struct stamping stamping = {.file = file, .most = texts_count(read)};
    bool changed = false;
    stamps_clear(file);
    file->stamps = calloc((size_t)stamping.most + 1, sizeof *file->stamps);
    if (file->stamps)
        texts_each(read, add_stamp, &stamping);
    for (int i = 0; i < file->stamp_count && app->watch; i++) {
        watch_add(app->watch, file->stamps[i].path);
        changed = changed || differs(file->stamps[i].path, file->stamps[i].hash);
    }
    return changed;
}

void stamps_take_late(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (!file->script || file->change.state != CHANGE_SETTLED || change_fails(&file->change))
            continue;
        struct texts *read = script_texts(file->script);
        if (texts_count(read) > file->stamp_count && stamps_take(app, file, read))
            change_asked(&file->change, false, false); /* nothing is under way, nothing to act on */
        texts_release(read);
    }
}

/* What a load that is under way has read, compared with what is there; path: or NULL, all of it. */
struct comparison {
    const char *path;
    bool differs;
};

static void compare(void *owner, const char *path, const char *text, size_t len)
{
    struct comparison *comparison = owner;
    if (!comparison->differs && (!comparison->path || scripts_same_path(comparison->path, path)))
        comparison->differs = differs(path, hash_of(text, len));
}

static bool load_differs(const struct handler_file *file, const char *path)
{
    struct comparison comparison = {.path = path};
    texts_each(file->load.read, compare, &comparison);
    return comparison.differs;
}

static bool is_refused(const struct handler_file *file)
{
    return file->change.state == CHANGE_SETTLED && change_fails(&file->change);
}

bool stamps_changed(const struct handler_file *file)
{
    if (file->change.state == CHANGE_LOADING)
        return load_differs(file, NULL);
    bool changed = is_refused(file);
    for (int i = 0; i < file->stamp_count && !changed; i++)
        changed = differs(file->stamps[i].path, file->stamps[i].hash);
    return changed;
}

bool stamps_concern(const struct handler_file *file, const char *path, bool *own)
{
    if (file->change.state == CHANGE_LOADING)
        return *own = load_differs(file, path);
    for (int i = 0; i < file->stamp_count; i++) {
        if (scripts_same_path(file->stamps[i].path, path))
            return *own = differs(file->stamps[i].path, file->stamps[i].hash);
    }
    return is_refused(file);
}

void stamps_watch(struct app *app)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        for (int i = 0; i < file->stamp_count; i++)
            watch_add(app->watch, file->stamps[i].path);
    }
}
