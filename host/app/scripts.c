#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "app/app_private.h"
#include "base/value.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *plain(const char *path)
{
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return path;
}

static struct handler_file *find(struct app *app, const char *path)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (strcmp(plain(file->path), plain(path)) == 0)
            return file;
    }
    return NULL;
}

static bool name_taken(struct app *app, const char *name)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (strcmp(file->name, name) == 0)
            return true;
    }
    return false;
}

static struct handler_file *add(struct app *app, const char *path)
{
    struct handler_file *file = find(app, path);
    if (file)
        return file;
    file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    const char *name = base_name(path);
    file->path = strdup(path);
    file->name = strdup(name_taken(app, name) ? path : name);
    if (!file->path || !file->name) {
        free(file->path);
        free(file->name);
        free(file);
        return NULL;
    }
    LL_APPEND(app->files, file);
    return file;
}

/* folder/name; owned by the caller. */
static char *join(const char *folder, const char *name)
{
    char *path;
    size_t len = strlen(folder);
    const char *slash = len > 0 && folder[len - 1] == '/' ? "" : "/";
    return asprintf(&path, "%s%s%s", folder, slash, name) < 0 ? NULL : path;
}

/* The files of a folder that are not on the list yet; returns how many files it has at all, or -1
 * when it cannot be read. */
static int scan_folder(struct app *app, const char *folder, bool wanted)
{
    int count;
    char **names = watch_list_folder(folder, &count);
    if (!names)
        return -1;
    for (int i = 0; i < count; i++) {
        char *path = join(folder, names[i]);
        if (path && !find(app, path)) {
            struct handler_file *file = add(app, path);
            if (file)
                file->wanted = wanted;
        }
        free(path);
    }
    watch_free_names(names, count);
    return count;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int find_path(struct app *app, const char *path, struct err *err)
{
    if (access(path, R_OK) != 0) {
        int code = err_set(err, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
        if (app->options->path_count == 0 && app->config->handler_count == 1)
            err_set(err, ERR_NOT_FOUND,
                    "%s: %s; say where the handlers are: a PATH on the command line, or "
                    "handlers = { ... } in moonbus.lua",
                    path, strerror(errno));
        return code;
    }
    if (!is_folder(path))
        return add(app, path) ? 0 : err_set(err, ERR_MEMORY, "out of memory");
    int count = scan_folder(app, path, false);
    if (count < 0)
        return err_set(err, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    if (count == 0)
        log_warn("%s: holds no handlers (*.lua)", path);
    return 0;
}

int scripts_find(struct app *app, struct err *err)
{
    int code = 0;
    for (int i = 0; i < app->paths.count && !code; i++)
        code = find_path(app, app->paths.list[i], err);
    return code;
}

/* The sentence says it all. */
static bool is_own_fault(enum err_code code)
{
    return code == ERR_HANDLER || code == ERR_INVALID || code == ERR_TAKEN;
}

void scripts_log_failure(const char *name, const struct failure *failure)
{
    struct log_context context = {
        .script = name,
        .file = failure->file,
        .line = failure->line,
        .code = is_own_fault(failure->err.code) ? NULL : err_name(failure->err.code),
        .traceback = failure->traceback,
    };
    log_event(LOG_ERROR, &context, "%s", failure->err.message);
}

int scripts_load(struct app *app)
{
    int failed = 0;
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        struct failure failure = {0};
        struct sources *read;
        file->script = engine_load(app->engine, file->path, file->name, &read, &failure);
        scripts_stamp(app, file, read);
        if (file->script && engine_check_loaded(file->script, &failure) == 0) {
            scripts_warn_empty(app, file);
        } else {
            scripts_log_failure(file->name, &failure);
            failed++;
        }
        failure_clear(&failure);
    }
    return failed;
}

void scripts_warn_empty(struct app *app, const struct handler_file *file)
{
    struct registration_view view;
    if (!engine_registration(app->engine, file->script, 0, &view))
        log_event(LOG_WARN, &(struct log_context){.script = file->name}, "registers nothing");
}

int scripts_rescan(struct app *app)
{
    int missing = 0;
    for (int i = 0; i < app->paths.count; i++) {
        if (is_folder(app->paths.list[i]))
            scan_folder(app, app->paths.list[i], true);
    }
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        bool gone = file->dropped || access(file->path, F_OK) != 0;
        bool back = !gone && file->gone;
        file->gone = gone;
        if (back && file->removed)
            file->wanted = true;
        if (!gone)
            file->told = file->removed = false;
        missing += gone && !file->told && file->script;
    }
    return missing;
}

/* Was it found in a folder that is still there? */
static bool is_listed(const struct app *app, const struct handler_file *file)
{
    for (int i = 0; i < app->paths.count; i++) {
        const char *folder = plain(app->paths.list[i]), *path = plain(file->path);
        size_t len = strlen(folder);
        while (len > 0 && folder[len - 1] == '/')
            len--;
        if (is_folder(app->paths.list[i]) && strncmp(path, folder, len) == 0 && path[len] == '/' &&
            !strchr(path + len + 1, '/'))
            return true;
    }
    return false;
}

static bool is_named(const struct app *app, const struct handler_file *file)
{
    for (int i = 0; i < app->paths.count; i++) {
        if (strcmp(plain(app->paths.list[i]), plain(file->path)) == 0)
            return true;
    }
    return false;
}

void scripts_relist(struct app *app)
{
    struct handler_file *file;
    for (int i = 0; i < app->paths.count; i++) {
        if (!is_folder(app->paths.list[i]) && !find(app, app->paths.list[i]) &&
            (file = add(app, app->paths.list[i])))
            file->wanted = true;
    }
    LL_FOREACH(app->files, file) {
        file->dropped = !is_listed(app, file) && !is_named(app, file);
        if (!file->dropped || file->removed)
            continue;
        file->gone = file->told = true;
        file->removed = file->wanted = file->script != NULL;
    }
}

void scripts_want_all(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file)
        file->wanted = file->wanted || !file->gone;
}

void scripts_watch(struct app *app)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        for (int i = 0; i < file->stamp_count; i++)
            watch_add(app->watch, file->stamps[i].path);
    }
}

void scripts_missed(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (!file->gone || file->told || !file->script)
            continue;
        file->told = true;
        file->removed = is_listed(app, file);
        file->wanted = file->removed;
        if (!file->removed)
            log_warn("%s: the file is gone; what it registered is served until the next start",
                     file->name);
    }
}

static void clear_stamps(struct handler_file *file)
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
    stamp->hash = text ? watch_hash(text, len) : 0;
    file->stamp_count += stamp->path != NULL;
}

static bool differs(const struct stamp *stamp)
{
    return watch_hash_file(stamp->path) != stamp->hash;
}

void scripts_stamp(struct app *app, struct handler_file *file, struct sources *read)
{
    if (!read)
        return;
    struct stamping stamping = {.file = file, .most = sources_count(read)};
    clear_stamps(file);
    file->stamps = calloc((size_t)stamping.most + 1, sizeof *file->stamps);
    if (file->stamps)
        sources_each(read, add_stamp, &stamping);
    sources_release(read);
    for (int i = 0; i < file->stamp_count && app->watch; i++) {
        watch_add(app->watch, file->stamps[i].path);
        if (differs(&file->stamps[i])) /* changed before the watch saw it */
            file->wanted = true;
    }
}

void scripts_stamp_late(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (!file->script || file->refused || file->gone)
            continue;
        struct sources *sources = script_sources(file->script);
        if (sources_count(sources) > file->stamp_count)
            scripts_stamp(app, file, sources);
        else
            sources_release(sources);
    }
}

bool scripts_changed(const struct handler_file *file)
{
    bool changed = file->refused || !file->script;
    for (int i = 0; i < file->stamp_count && !changed; i++)
        changed = differs(&file->stamps[i]);
    return changed;
}

bool scripts_concerns(const struct handler_file *file, const char *path)
{
    for (int i = 0; i < file->stamp_count; i++) {
        if (strcmp(plain(file->stamps[i].path), plain(path)) == 0)
            return differs(&file->stamps[i]);
    }
    return file->refused || !file->script;
}

int scripts_handlers(struct app *app)
{
    int handlers = 0;
    for (int i = 0; i < engine_script_count(app->engine); i++) {
        struct registration_view view;
        struct script *script = engine_script(app->engine, i);
        for (int k = 0; engine_registration(app->engine, script, k, &view); k++)
            handlers += strcmp(view.what, "stream") != 0;
    }
    return handlers;
}

void scripts_free(struct app *app)
{
    struct handler_file *file, *next;
    LL_FOREACH_SAFE(app->files, file, next) {
        clear_stamps(file);
        free(file->last_error);
        free(file->path);
        free(file->name);
        free(file);
    }
    app->files = NULL;
}
