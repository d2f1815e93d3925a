/* again - see again.h. */
#include "cli/test/again.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/value.h"
#include "cli/cli.h"
#include "cli/test/apart.h"

#define LOOK_NS (200 * NS_PER_MS)
#define SETTLED_NS (50 * NS_PER_MS)
#define END_NS (5 * NS_PER_S)
#define END_LOOK_NS (2 * NS_PER_MS)
#define FILES_MOST 20000
#define FOLDERS_MOST 4000

struct again_file {
    char *path; /* owned */
    int64_t changed_ns;
    off_t size;
    ino_t inode;
};

struct again_folder {
    dev_t device;
    ino_t inode;
};

struct again_look {
    struct again_file *files; /* owned, by path */
    int count, room;
    struct again_folder *folders; /* owned, while it looks: each once, whatever links lead there */
    int folder_count;
    bool full; /* there is more than is looked at */
};

/* --- what there is --- */

static bool is_wanted(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (strcmp(dot, ".lua") == 0 || strcmp(dot, ".json") == 0);
}

static void add_file(struct again_look *look, const char *path, const struct stat *info)
{
    if (look->count == FILES_MOST) {
        look->full = true;
        return;
    }
    if (look->count == look->room) {
        int room = look->room ? look->room * 2 : 64;
        struct again_file *files = realloc(look->files, (size_t)room * sizeof *files);
        if (!files)
            return;
        look->files = files;
        look->room = room;
    }
    char *copy = strdup(path);
    if (copy)
        look->files[look->count++] =
            (struct again_file){copy, info->st_mtim.tv_sec * NS_PER_S + info->st_mtim.tv_nsec,
                                info->st_size, info->st_ino};
}

static bool enters(struct again_look *look, const struct stat *info)
{
    const struct again_folder folder = {info->st_dev, info->st_ino};
    for (int i = 0; i < look->folder_count; i++) {
        if (look->folders[i].device == folder.device && look->folders[i].inode == folder.inode)
            return false;
    }
    look->full = look->full || look->folder_count == FOLDERS_MOST;
    if (!look->folders || look->folder_count == FOLDERS_MOST)
        return false;
    look->folders[look->folder_count++] = folder;
    return true;
}

static void add_path(struct again_look *look, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return;
    if (S_ISREG(info.st_mode) && is_wanted(path))
        add_file(look, path, &info);
    DIR *dir = S_ISDIR(info.st_mode) && enters(look, &info) ? opendir(path) : NULL;
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char inner[4096];
        const char *between = path[strlen(path) - 1] == '/' ? "" : "/";
        if (entry->d_name[0] != '.' && snprintf(inner, sizeof inner, "%s%s%s", path, between,
                                                entry->d_name) < (int)sizeof inner)
            add_path(look, inner);
    }
    if (dir)
        closedir(dir);
}

/* A file that is named has others beside it. */
static void add_argument(struct again_look *look, const char *path)
{
    char folder[4096];
    struct stat info;
    const char *slash = strrchr(path, '/');
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        add_path(look, path);
        return;
    }
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    add_path(look, slash == path ? "/" : folder);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct again_file *)a)->path, ((const struct again_file *)b)->path);
}

static void look_clear(struct again_look *look)
{
    for (int i = 0; i < look->count; i++)
        free(look->files[i].path);
    free(look->files);
    *look = (struct again_look){0};
}

/* What was come by in two ways. */
static void drop_twins(struct again_look *look)
{
    int kept = 0;
    for (int i = 0; i < look->count; i++) {
        if (kept > 0 && strcmp(look->files[kept - 1].path, look->files[i].path) == 0)
            free(look->files[i].path);
        else
            look->files[kept++] = look->files[i];
    }
    look->count = kept;
}

/* First what scripts are made of: of what an argument names there may be more than is looked at. */
static struct again_look look_at(const struct cli *cli, const struct config *config)
{
    struct again_look look = {.folders = calloc(FOLDERS_MOST, sizeof *look.folders)};
    add_path(&look, cli->config_file ? cli->config_file : "moonbus.lua");
    for (int i = 0; config && i < config->handler_count; i++)
        add_argument(&look, config->handlers[i]);
    for (int i = 0; config && i < config->lib_count; i++)
        add_path(&look, config->lib[i]);
    if (!config)
        add_path(&look, "handlers");
    add_path(&look, "test");
    add_path(&look, "tests");
    for (int i = 0; i < cli->arg_count; i++)
        add_argument(&look, cli->args[i]);
    if (look.count > 0)
        qsort(look.files, (size_t)look.count, sizeof *look.files, by_path);
    drop_twins(&look);
    free(look.folders);
    look.folders = NULL;
    return look;
}

static bool is_same(const struct again_file *a, const struct again_file *b)
{
    return a->changed_ns == b->changed_ns && a->size == b->size && a->inode == b->inode;
}

/* The first that came, went or changed; NULL: none. Of either of them. */
static const char *difference(const struct again_look *before, const struct again_look *now)
{
    for (int i = 0; i < before->count || i < now->count; i++) {
        const struct again_file *a = i < before->count ? &before->files[i] : NULL;
        const struct again_file *b = i < now->count ? &now->files[i] : NULL;
        int order = !a ? 1 : !b ? -1 : strcmp(a->path, b->path);
        if (order != 0)
            return order < 0 ? a->path : b->path;
        if (!is_same(a, b))
            return a->path;
    }
    return NULL;
}

/* --- runs --- */

static void end_run(pid_t *child)
{
    if (*child <= 0)
        return;
    /* One that has a server ends that, too. */
    kill(*child, SIGTERM);
    for (int64_t waited_ns = 0; waited_ns < END_NS; waited_ns += END_LOOK_NS) {
        const struct timespec look = {0, END_LOOK_NS};
        if (waitpid(*child, NULL, WNOHANG) == *child) {
            *child = 0;
            return;
        }
        nanosleep(&look, NULL);
    }
    kill(*child, SIGKILL);
    waitpid(*child, NULL, 0);
    *child = 0;
}

/* The signal that came within so long; 0: none. */
static int wait_for_signal(const sigset_t *signals, int64_t ns)
{
    const struct timespec most = {ns / NS_PER_S, ns % NS_PER_S};
    int number = sigtimedwait(signals, NULL, &most);
    return number > 0 ? number : 0;
}

struct again_watch {
    struct cli *cli;
    sigset_t signals, before;
    struct config *config;  /* owned; NULL: it cannot be read just now */
    struct again_look last; /* owned */
    pid_t child;            /* 0: none runs */
    bool told_full;
};

static void read_config(struct again_watch *watching)
{
    struct err err;
    struct config_sources sources = cli_sources(watching->cli);
    config_free(watching->config);
    watching->config = config_load(&sources, &err);
}

static void reap(struct again_watch *watching)
{
    if (watching->child <= 0 || waitpid(watching->child, NULL, WNOHANG) != watching->child)
        return;
    watching->child = 0;
    printf("watching %d files; Ctrl-C ends it\n", watching->last.count);
    fflush(stdout);
}

/* A file has changed: waits until no other does. False: a signal came that ends it. */
static bool settle(struct again_watch *watching, struct again_look *now)
{
    int64_t waited_ns = 0;
    while (waited_ns < NS_PER_S) {
        int number = wait_for_signal(&watching->signals, SETTLED_NS);
        if (number && number != SIGCHLD)
            return false;
        struct again_look later = look_at(watching->cli, watching->config);
        bool settled = !difference(now, &later);
        look_clear(now);
        *now = later;
        if (settled)
            break;
        waited_ns += SETTLED_NS;
    }
    return true;
}

/* True: there is a change, and the tests are to run once more. */
static bool look_again(struct again_watch *watching, bool *ends)
{
    struct again_look now = look_at(watching->cli, watching->config);
    const char *changed = difference(&watching->last, &now);
    if (!changed) {
        look_clear(&now);
        return false;
    }
    end_run(&watching->child);
    printf("\n%s has changed\n", changed);
    *ends = !settle(watching, &now);
    look_clear(&watching->last);
    watching->last = now;
    return !*ends;
}

/* Once. */
static void tell_full(struct again_watch *watching)
{
    if (!watching->last.full || watching->told_full)
        return;
    watching->told_full = true;
    fprintf(stderr,
            "moonbus test: --watch: here are more than %d files or %d folders; changes of the rest "
            "are not seen: name folders that hold less\n",
            FILES_MOST, FOLDERS_MOST);
}

static int run_and_watch(struct again_watch *watching, int (*once)(struct cli *cli))
{
    bool due = true, ends = false;
    while (!ends) {
        if (due) {
            read_config(watching);
            look_clear(&watching->last);
            watching->last = look_at(watching->cli, watching->config);
            tell_full(watching);
            watching->child = apart_start(watching->cli, once, &watching->before);
            if (watching->child < 0) {
                fprintf(stderr, "moonbus test: no process can be made for a run\n");
                return CLI_FAILED;
            }
        }
        int number = wait_for_signal(&watching->signals, LOOK_NS);
        ends = number != 0 && number != SIGCHLD;
        reap(watching);
        due = !ends && look_again(watching, &ends);
    }
    return CLI_OK;
}

int again_run(struct cli *cli, int (*once)(struct cli *cli))
{
    struct again_watch watching = {.cli = cli};
    sigemptyset(&watching.signals);
    sigaddset(&watching.signals, SIGINT);
    sigaddset(&watching.signals, SIGTERM);
    sigaddset(&watching.signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watching.signals, &watching.before);
    setvbuf(stdout, NULL, _IOLBF, 0); /* of runs that are ended, too, each line is seen */
    int status = run_and_watch(&watching, once);
    end_run(&watching.child);
    look_clear(&watching.last);
    config_free(watching.config);
    return status;
}
