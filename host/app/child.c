/* A nats-server as a child process: started, waited for, restarted, stopped. */
#include "app/child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/port_owner.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/value.h"

#define NATS_PORT 4222
#define POLL_NS (2 * NS_PER_MS)
#define RESTART_MIN_MS 250
#define RESTART_MAX_MS 5000
/* One that has run for so long starts with the shortest wait again. */
#define RESTART_SETTLED_NS (30 * NS_PER_S)
#define NO_FILE_STATUS 127

struct child {
    uv_signal_t on_child; /* SIGCHLD */
    uv_timer_t restart;
    int handles;                                /* not closed yet */
    char *binary, *store, *url_path, *log_path; /* owned */
    char *config;                               /* owned, or NULL */
    char url[64];
    int port;
    int output; /* its log, which holds the lock of the folder */
    pid_t pid;  /* 0: it does not run */
    uint64_t started_ns;
    unsigned restart_ms;
    bool announced, told, stopping;
};

/* --- where, which, and on what port --- */

/* A bare name is looked for as a shell would, and where nats-server's package puts it. */
static char *find_binary(const char *name, struct err *err)
{
    const char *path = getenv("PATH");
    char *folders = NULL;
    if (asprintf(&folders, "%s:/usr/sbin:/usr/local/sbin", path ? path : "") < 0)
        return NULL;
    char *found = NULL, *rest = folders, *folder;
    while (!found && (folder = strsep(&rest, ":"))) {
        if (*folder && asprintf(&found, "%s/%s", folder, name) < 0)
            found = NULL;
        if (found && access(found, X_OK) != 0) {
            free(found);
            found = NULL;
        }
    }
    free(folders);
    if (!found)
        err_set(err, ERR_NOT_FOUND,
                "there is no %s in PATH: install the package nats-server, or name one with "
                "--nats-server PATH",
                name);
    return found;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

/* The port if nobody has it (0: any), else 0. */
static int free_port(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = loopback(port);
    socklen_t len = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&address, &len) == 0;
    if (fd >= 0)
        close(fd);
    return bound ? ntohs(address.sin_port) : 0;
}

int child_free_port(void)
{
    return free_port(0);
}

static int choose_port(struct child *child, const struct child_options *options, struct err *err)
{
    if (options->port) {
        char owner[400];
        child->port = free_port(options->port);
        if (!child->port)
            return err_set(err, ERR_SYSTEM, "port %d is taken%s: choose another with --nats-port",
                           options->port, port_owner(options->port, owner, sizeof owner));
    } else {
        child->port = options->apart ? 0 : free_port(NATS_PORT);
        if (!child->port)
            child->port = free_port(0);
        if (!child->port)
            return err_set(err, ERR_SYSTEM, "no port on 127.0.0.1 is free");
    }
    snprintf(child->url, sizeof child->url, "nats://127.0.0.1:%d", child->port);
    return 0;
}

/* What streams hold is for nobody else to read. */
static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, S_IRWXU) == 0 || errno == EEXIST)
        return 0;
    return err_set(err, ERR_SYSTEM, "cannot make the folder %s: %s", path, strerror(errno));
}

/* What stands here is nobody's source code. */
static void keep_out_of_git(const char *folder)
{
    char *path = NULL;
    if (asprintf(&path, "%s/.gitignore", folder) < 0)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t wrote = write(fd, "*\n", 2);
        (void)wrote;
        close(fd);
    }
    free(path);
}

static int open_folder(struct child *child, const struct child_options *options, struct err *err)
{
    const char *store = options->store ? options->store : options->folder;
    int code = make_folder(options->folder, err);
    if (!code)
        code = make_folder(store, err);
    if (code)
        return code;
    chmod(options->folder, S_IRWXU); /* made before that was so; somebody else's cannot be */
    keep_out_of_git(options->folder);
    child->store = strdup(store);
    child->config = options->config ? strdup(options->config) : NULL;
    if (!child->store || (options->config && !child->config) ||
        asprintf(&child->log_path, "%s/nats-server.log", options->folder) < 0 ||
        asprintf(&child->url_path, "%s/url", options->folder) < 0)
        return err_set(err, ERR_MEMORY, "out of memory");
    child->output = open(child->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (child->output < 0)
        return err_set(err, ERR_SYSTEM, "cannot write %s: %s", child->log_path, strerror(errno));
    if (flock(child->output, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, ERR_SYSTEM, "another `moonbus dev` uses %s: end it first",
                       options->folder);
    return ftruncate(child->output, 0) == 0
               ? 0
               : err_set(err, ERR_SYSTEM, "cannot empty %s: %s", child->log_path, strerror(errno));
}

/* --- the process --- */

/* After fork: async-signal-safe calls only. */
static void become_server(const struct child *child, const char *port, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(NO_FILE_STATUS);
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    dup2(child->output, STDOUT_FILENO);
    dup2(child->output, STDERR_FILENO);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl(child->binary, "nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", child->store,
          child->config ? "-c" : (char *)NULL, child->config, (char *)NULL);
    _exit(NO_FILE_STATUS);
}

static int spawn(struct child *child, struct err *err)
{
    char port[16];
    snprintf(port, sizeof port, "%d", child->port);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_set(err, ERR_SYSTEM, "cannot start %s: %s", child->binary, strerror(errno));
    if (pid == 0)
        become_server(child, port, parent);
    child->pid = pid;
    child->started_ns = clock_now_ns();
    return 0;
}

/* True: it has ended, or never ran; how says so in words. */
static bool reap(struct child *child, char *how, size_t size)
{
    int status;
    if (child->pid == 0)
        return true;
    if (waitpid(child->pid, &status, WNOHANG) != child->pid)
        return false;
    child->pid = 0;
    if (WIFSIGNALED(status))
        snprintf(how, size, "was ended by signal %d", WTERMSIG(status));
    else
        snprintf(how, size, "ended with status %d", WEXITSTATUS(status));
    return true;
}

/* The last line of its log, for an error; "" when there is none. */
static void last_words(const struct child *child, char *words, size_t size)
{
    char tail[1024];
    off_t end = lseek(child->output, 0, SEEK_END);
    off_t from = end > (off_t)sizeof tail - 1 ? end - (off_t)sizeof tail + 1 : 0;
    ssize_t len = pread(child->output, tail, sizeof tail - 1, from);
    tail[len > 0 ? len : 0] = '\0';
    for (size_t at = strlen(tail); at > 0 && tail[at - 1] == '\n'; at--)
        tail[at - 1] = '\0';
    const char *line = strrchr(tail, '\n');
    snprintf(words, size, "%.300s", line ? line + 1 : tail);
}

static void on_restart(uv_timer_t *timer)
{
    struct child *child = timer->data;
    struct err err;
    if (!child->stopping && child->pid == 0 && spawn(child, &err) != 0)
        log_err(&err);
}

static void on_child(uv_signal_t *handle, int number)
{
    struct child *child = handle->data;
    char how[64], words[320];
    (void)number;
    if (child->stopping || child->pid == 0 || !reap(child, how, sizeof how))
        return;
    if (clock_now_ns() - child->started_ns > RESTART_SETTLED_NS) {
        child->restart_ms = RESTART_MIN_MS;
        child->told = false;
    }
    if (!child->told) {
        last_words(child, words, sizeof words);
        log_error("nats-server %s, starting it again; its log is %s%s%s", how, child->log_path,
                  *words ? "; it said: " : "", words);
    }
    child->told = true;
    uv_timer_start(&child->restart, on_restart, child->restart_ms, 0);
    child->restart_ms =
        child->restart_ms * 2 < RESTART_MAX_MS ? child->restart_ms * 2 : RESTART_MAX_MS;
}

static void on_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    if (--child->handles > 0)
        return;
    if (child->output >= 0)
        close(child->output);
    free(child->binary);
    free(child->store);
    free(child->config);
    free(child->url_path);
    free(child->log_path);
    free(child);
}

static int prepare(struct child *child, const struct child_options *options, struct err *err)
{
    const char *name = options->binary ? options->binary : "nats-server";
    child->binary = strchr(name, '/') ? strdup(name) : find_binary(name, err);
    if (!child->binary)
        return ERR_NOT_FOUND;
    if (access(child->binary, X_OK) != 0)
        return err_set(err, ERR_NOT_FOUND, "cannot start %s: %s; it is in the package nats-server",
                       child->binary, strerror(errno));
    int code = choose_port(child, options, err);
    return code ? code : open_folder(child, options, err);
}

struct child *child_start(uv_loop_t *loop, const struct child_options *options, struct err *err)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    child->output = -1;
    child->restart_ms = RESTART_MIN_MS;
    uv_signal_init(loop, &child->on_child);
    uv_timer_init(loop, &child->restart);
    child->on_child.data = child->restart.data = child;
    child->handles = 2;
    if (prepare(child, options, err) != 0 || spawn(child, err) != 0) {
        child_stop(child, 0);
        return NULL;
    }
    uv_signal_start(&child->on_child, on_child, SIGCHLD);
    return child;
}

static bool accepts(const struct child *child)
{
    struct sockaddr_in address = loopback(child->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return connected;
}

static int write_url(struct child *child, struct err *err)
{
    FILE *file = fopen(child->url_path, "we");
    child->announced = file != NULL;
    bool ok = file && fprintf(file, "%s\n", child->url) > 0;
    if (file && fclose(file) != 0)
        ok = false;
    return ok ? 0
              : err_set(err, ERR_SYSTEM, "cannot write %s: %s", child->url_path, strerror(errno));
}

int child_wait_ready(struct child *child, uint64_t deadline_ns, struct err *err)
{
    char how[64] = "does not run", words[320];
    const struct timespec pause = {.tv_nsec = POLL_NS};
    while (!accepts(child)) {
        bool ended = reap(child, how, sizeof how), late = clock_now_ns() > deadline_ns;
        if (!ended && !late) {
            nanosleep(&pause, NULL);
            continue;
        }
        last_words(child, words, sizeof words);
        return err_set(err, ERR_SYSTEM, "%s %s%s%s (its log: %s)", child->binary,
                       ended ? how : "accepts no connections", *words ? ": " : "", words,
                       child->log_path);
    }
    return write_url(child, err);
}

const char *child_url(const struct child *child)
{
    return child->url;
}

void child_stop(struct child *child, uint64_t deadline_ns)
{
    char how[64];
    const struct timespec pause = {.tv_nsec = POLL_NS};
    if (!child)
        return;
    child->stopping = true;
    if (child->pid)
        kill(child->pid, SIGTERM);
    bool killed = false;
    while (!reap(child, how, sizeof how)) {
        if (!killed && clock_now_ns() >= deadline_ns) {
            kill(child->pid, SIGKILL);
            killed = true;
        }
        nanosleep(&pause, NULL);
    }
    if (child->announced)
        unlink(child->url_path);
    uv_close((uv_handle_t *)&child->on_child, on_closed);
    uv_close((uv_handle_t *)&child->restart, on_closed);
}
