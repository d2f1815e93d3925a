/* init - `moonbus init`: a new project. It never writes over what is there; of what it has begun
 * and cannot end, nothing is left.
 *
 * The sets of init_files.h: "project" and "types" always; "handler", or the example that is asked
 * for. `--types` writes the types alone, anew: for a newer moonbus. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/init/init_files.h"
#include "cli/say.h"

struct new_project {
    const struct cli *cli;
    const char *folder;
    const char *handlers; /* the set that the handlers are of */
    char path[PATH_MAX];  /* the file in hand */
};

static bool is_base(const char *set)
{
    return strcmp(set, "project") == 0 || strcmp(set, "types") == 0 || strcmp(set, "handler") == 0;
}

/* Is the file one that is to be written? */
static bool is_wanted(const struct new_project *project, const struct init_file *file)
{
    if (project->cli->types)
        return strcmp(file->set, "types") == 0;
    return strcmp(file->set, "project") == 0 || strcmp(file->set, "types") == 0 ||
           strcmp(file->set, project->handlers) == 0;
}

static bool has_set(const char *set)
{
    for (int i = 0; i < init_file_count; i++) {
        if (strcmp(init_files[i].set, set) == 0)
            return true;
    }
    return false;
}

/* "a, b, c": each example once. */
static void list_examples(char *out, size_t size)
{
    size_t len = 0;
    const char *last = "";
    *out = '\0';
    for (int i = 0; i < init_file_count && len < size; i++) {
        const char *set = init_files[i].set;
        if (is_base(set) || strcmp(set, last) == 0)
            continue;
        len += (size_t)snprintf(out + len, size - len, "%s%s", len ? ", " : "", set);
        last = set;
    }
}

static int failed(const struct new_project *project, const char *what, const char *path)
{
    say_error(project->cli, "%s %s: %s", what, path, strerror(errno));
    return CLI_FAILED;
}

/* project->path; false: it is too long. */
static bool set_path(struct new_project *project, const char *path)
{
    int len = snprintf(project->path, sizeof project->path, "%s/%s", project->folder, path);
    errno = ENAMETOOLONG;
    return len > 0 && (size_t)len < sizeof project->path;
}

/* --- what is there --- */

/* Says of each file that is in the way. Returns how many. */
static int count_conflicts(struct new_project *project)
{
    int count = 0;
    struct stat status;
    for (int i = 0; i < init_file_count; i++) {
        if (!is_wanted(project, &init_files[i]) || !set_path(project, init_files[i].path) ||
            lstat(project->path, &status) != 0)
            continue;
        say_error(project->cli, "%s is there already", project->path);
        count++;
    }
    return count;
}

/* --- writing --- */

/* It is there already, or is made; else false, with errno. */
static bool make_folder(const char *path)
{
    struct stat status;
    if (mkdir(path, 0777) == 0)
        return true;
    if (errno != EEXIST || stat(path, &status) != 0)
        return false;
    errno = ENOTDIR;
    return S_ISDIR(status.st_mode);
}

/* The folders above project->path. */
static int make_folders(struct new_project *project)
{
    for (char *slash = strchr(project->path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!make_folder(project->path))
            return failed(project, "cannot make", project->path);
        *slash = '/';
    }
    return CLI_OK;
}

static int write_file(struct new_project *project, const struct init_file *file)
{
    if (!set_path(project, file->path))
        return failed(project, "cannot write", file->path);
    int code = make_folders(project);
    if (code)
        return code;
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (project->cli->types ? O_TRUNC : O_EXCL);
    int fd = open(project->path, flags, 0666);
    if (fd < 0)
        return failed(project, "cannot write", project->path);
    size_t done = 0;
    while (done < file->size) {
        ssize_t count = write(fd, file->bytes + done, file->size - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            break;
        done += (size_t)count;
    }
    int wrong = done < file->size ? errno : 0;
    if (close(fd) != 0 && !wrong)
        wrong = errno;
    if (!wrong)
        return CLI_OK;
    unlink(project->path);
    errno = wrong;
    return failed(project, "cannot write", project->path);
}

/* Takes back what this run has written: the files before `end`. Empty folders stay. */
static void undo(struct new_project *project, int end)
{
    for (int i = 0; i < end; i++) {
        if (is_wanted(project, &init_files[i]) && set_path(project, init_files[i].path))
            unlink(project->path);
    }
}

static int write_all(struct new_project *project)
{
    for (int i = 0; i < init_file_count; i++) {
        if (!is_wanted(project, &init_files[i]))
            continue;
        int code = write_file(project, &init_files[i]);
        if (code) {
            if (!project->cli->types)
                undo(project, i);
            return code;
        }
    }
    return CLI_OK;
}

/* --- what it says --- */

/* Of a path that a shell takes for one word as it is. */
#define PLAIN_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./"

static void print_made(const struct new_project *project)
{
    const struct cli *cli = project->cli;
    bool here = strcmp(project->folder, ".") == 0;
    for (int i = 0; i < init_file_count; i++) {
        if (is_wanted(project, &init_files[i]) && strcmp(init_files[i].set, "types") != 0)
            printf("  %s\n", init_files[i].path);
    }
    printf("  types/: what editors know of moonbus%s\n", cli->types ? ", anew" : "");
    if (cli->types)
        return;
    printf("next: ");
    bool plain = strspn(project->folder, PLAIN_LETTERS) == strlen(project->folder);
    if (!here)
        printf(plain ? "cd %s\n      " : "cd '%s'\n      ", project->folder);
    printf("%s test       tests, without a server\n", cli->program);
    printf("      %s check      are the settings wise?\n", cli->program);
    printf("      %s dev        run it, with a nats-server of its own\n", cli->program);
}

int cli_init(struct cli *cli)
{
    struct new_project project = {.cli = cli,
                                  .folder = cli->arg_count > 0 ? cli->args[0] : ".",
                                  .handlers = cli->example ? cli->example : "handler"};
    char examples[512];
    if (!*project.folder)
        return cli_usage(cli, "the folder is empty: name one, or leave it out");
    if (cli->types && cli->example)
        return cli_usage(cli, "--types writes no handlers: leave --example out");
    if (cli->example && (is_base(cli->example) || !has_set(cli->example))) {
        list_examples(examples, sizeof examples);
        return cli_usage(cli, "no example is called \"%s\"; there are %s", cli->example, examples);
    }
    if (!cli->types && count_conflicts(&project) > 0) {
        say_error(cli, "nothing was written: choose another folder, or move these away");
        return CLI_USAGE;
    }
    int code = write_all(&project);
    if (!code)
        print_made(&project);
    return code;
}
