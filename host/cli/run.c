#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "app/app.h"
#include "base/log_output.h"
#include "cli/cli.h"

#define LOG_FLUSH_MS 1000 /* what the log may hold back is worth waiting for, but not long */

int cli_run_app(const struct app_options *options)
{
    struct app_end end = app_run(options);
    fflush(stdout);
    log_output_flush(LOG_FLUSH_MS);
    /* Threads still run on what exit handlers would take down. Not by _exit: ThreadSanitizer would
     * complain there of a thread that has just ended and that nobody has joined yet. */
    if (end.left_behind)
        syscall(SYS_exit_group, end.status);
    return end.status;
}

int cli_run(struct cli *cli)
{
    struct err err;
    const struct config_sources sources = cli_sources(cli);
    struct config *config = config_load(&sources, &err);
    if (!config) {
        fprintf(stderr, "moonbus run: %s\n", err.message);
        return CLI_USAGE;
    }
    const struct app_options options = {
        .config = config,
        .sources = &sources,
        .paths = (const char *const *)cli->args,
        .path_count = cli->arg_count,
        .began_ns = cli->began_ns,
    };
    int status = cli_run_app(&options);
    config_free(config);
    return status;
}
