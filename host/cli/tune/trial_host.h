/* trial_host - the host that is tested: this program once more, as a child, with the settings of
 * one round; and the measures that it shows at its admin endpoint.
 *
 * It has a process group of its own, so Ctrl-C does not reach it, and dies with us, however we end.
 * The main thread's. */
#ifndef MOONBUS_CLI_TUNE_TRIAL_HOST_H
#define MOONBUS_CLI_TUNE_TRIAL_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct cJSON;
struct cli;

struct trial_host {
    pid_t pid; /* 0: none runs */
    char admin[32];
    char log[300], output[300]; /* files: its standard error and output */
    void *curl;                 /* owned */
    bool ended;                 /* by itself, or as it was told */
    int exit;                   /* its exit status then; above 128: the signal that ended it */
    uint64_t began_ns;
};

/* Starts one. instructions: what it is told (trial_host_main reads it). folder: for its log. */
int trial_host_start(struct trial_host *host, const struct cli *cli,
                     const struct cJSON *instructions, const char *folder, struct err *err);

/* Blocks until it serves. hurry: NULL, or gives up when it says so. An error has its last words. */
int trial_host_wait_ready(struct trial_host *host, bool (*hurry)(void *owner), void *owner,
                          struct err *err);

/* Blocks until it has ended by itself. */
int trial_host_wait_end(struct trial_host *host, struct err *err);

/* Has it ended? */
bool trial_host_gone(struct trial_host *host);

/* GET of its admin endpoint, the caller's; NULL: it does not answer. */
struct cJSON *trial_host_ask(struct trial_host *host, const char *path);

/* What the process has used so far; false: it is gone. */
struct trial_usage {
    double cpu_seconds;
    double rss_bytes;
};
bool trial_host_usage(const struct trial_host *host, struct trial_usage *usage);

/* SIGTERM; after most_ns SIGKILL. NULL-safe; host->exit tells. */
void trial_host_stop(struct trial_host *host, int64_t most_ns);

/* Why it has ended by itself, by its log; returns err's code. */
int trial_host_say_end(const struct trial_host *host, struct err *err);

/* When it has ended, and none comes. */
void trial_host_clear(struct trial_host *host);

/* The errors that it logged, and how often each: [{"text", "count"}]; a few of them. */
struct cJSON *trial_host_log(const struct trial_host *host);

/* The other side: `moonbus tune --as-host INSTRUCTIONS PATH...`. Returns an exit status. */
int trial_host_main(struct cli *cli);

#endif
