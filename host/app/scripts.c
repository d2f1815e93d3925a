/* scripts - from paths to handler files: which there are, which have come, gone and come back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "app/app.h"
#include "app/app_private.h"
#include "base/value.h"
#include "vm/texts.h"

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

bool scripts_same_path(const char *a, const char *b)
{
    return strcmp(plain(a), plain(b)) == 0;
}

static struct handler_file *find(struct app *app, const char *path)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (scripts_same_path(file->path, path))
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

/* The file's own name; its path, if another has that name; "./x.lua", if that path is another's
 * name (of sub/x.lua). Owned by the caller; NULL: no memory. */
static char *choose_name(struct app *app, const char *path)
{
    const char *name = base_name(path);
    if (name_taken(app, name))
        name = path;
    char *chosen = strdup(name);
    while (chosen && name_taken(app, chosen)) {
        char *longer;
        if (asprintf(&longer, "./%s", chosen) < 0)
            longer = NULL;
        free(chosen);
        chosen = longer;
    }
    return chosen;
}

/* wanted: it is to be loaded. */
static struct handler_file *add_file(struct app *app, const char *path, bool wanted)
{
    struct handler_file *file = find(app, path);
    if (file)
        return file;
    file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->path = strdup(path);
    file->name = choose_name(app, path);
    if (!file->path || !file->name) {
        free(file->path);
        free(file->name);
        free(file);
        return NULL;
    }
    change_init(&file->change, wanted);
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
        if (path)
            add_file(app, path, wanted);
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
        return add_file(app, path, false) ? 0 : err_set(err, ERR_MEMORY, "out of memory");
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
        .code = err_name(failure->err.code),
        .tacit = is_own_fault(failure->err.code),
        .traceback = failure->traceback,
    };
    log_event(LOG_ERROR, &context, "%s", failure->err.message);
}

/* 0, or what is wrong with it: logged, and kept for the status. */
static int load(struct app *app, struct handler_file *file)
{
    struct failure failure = {0};
    struct texts *read = texts_new();
    int code = read ? 0 : err_set(&failure.err, ERR_MEMORY, "no memory to load it");
    if (read)
        file->script = engine_load(app->engine, file->path, file->name, read, NULL, &failure);
    if (file->script) {
        engine_add(app->engine, file->script);
        code = engine_check_loaded(file->script, &failure);
    } else {
        code = failure.err.code;
    }
    if (read && stamps_take(app, file, read)) /* by now; loaded again when all serve */
        change_asked(&file->change, false, false);
    texts_release(read);
    if (code) {
        scripts_log_failure(file->name, &failure);
        change_started(&file->change, CHANGE_REFUSED);
        verdict_keep(file, &failure);
    }
    failure_clear(&failure);
    return code;
}

int scripts_load(struct app *app)
{
    int failed = 0;
    struct handler_file *file;
    LL_FOREACH(app->files, file)
        failed += load(app, file) != 0;
    return failed;
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
        if (file->dropped || access(file->path, F_OK) != 0)
            change_missing(&file->change);
        else
            change_back(&file->change);
        missing += file->change.presence == CHANGE_MISSING;
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
        if (scripts_same_path(app->paths.list[i], file->path))
            return true;
    }
    return false;
}

void scripts_relist(struct app *app)
{
    struct handler_file *file;
    for (int i = 0; i < app->paths.count; i++) {
        if (!is_folder(app->paths.list[i]))
            add_file(app, app->paths.list[i], true);
    }
    LL_FOREACH(app->files, file) {
        file->dropped = !is_listed(app, file) && !is_named(app, file);
        if (file->dropped)
            reload_act(file, change_lost(&file->change, true));
        verdict_over(app, file);
    }
}

void scripts_missed(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        bool listed = is_listed(app, file);
        if (file->change.presence != CHANGE_MISSING)
            continue;
        if (file->change.known && !listed)
            log_warn("%s: the file is gone; what it registered is served until the next start",
                     file->name);
        reload_act(file, change_lost(&file->change, listed));
        verdict_over(app, file);
    }
}

const char *app_refused(const struct app *app, int i)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (file->last_error && i-- == 0)
            return file->name;
    }
    return NULL;
}

int scripts_serving(struct app *app, int *handlers)
{
    int scripts = 0;
    *handlers = 0;
    for (int i = 0; i < engine_script_count(app->engine); i++) {
        struct registration_view view;
        struct script *script = engine_script(app->engine, i);
        if (!script_serves(script))
            continue;
        scripts++;
        for (int k = 0; engine_registration(app->engine, script, k, &view); k++)
            *handlers += !view.declared;
    }
    return scripts;
}

void scripts_free(struct app *app)
{
    struct handler_file *file, *next;
    LL_FOREACH_SAFE(app->files, file, next) {
        stamps_clear(file);
        free(file->last_error);
        free(file->path);
        free(file->name);
        free(file);
    }
    app->files = NULL;
}
