/* moonbus run: the whole host in the foreground. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "app/app.h"
#include "base/log.h"
#include "base/log_output.h"
#include "cli/cli.h"
#include "cli/say.h"

#define LOG_FLUSH_MS 1000 /* what the log may hold back is worth waiting for, but not long */

/* A pipe whose reader has gone. errno may be of another write by now. */
static bool has_no_reader(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&output, 1, 0) > 0 && output.revents & POLLERR;
}

int cli_flush(int status)
{
    static bool failed;
    errno = 0;
    if (!failed && fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (!failed && !status && !has_no_reader())
        fprintf(stderr, "moonbus: standard output: %s\n",
                errno ? strerror(errno) : "not all could be written");
    failed = true;
    return status ? status : has_no_reader() ? CLI_OK : CLI_FAILED;
}

void cli_end_app(struct app_end *end)
{
    end->status = (enum app_exit)cli_flush((int)end->status);
    log_tell_counts();
    log_output_flush(LOG_FLUSH_MS);
    /* Threads still run on what exit handlers would take down. Not by _exit: ThreadSanitizer would
     * complain there of a thread that has just ended and that nobody has joined yet. */
    if (end->left_behind)
        syscall(SYS_exit_group, end->status);
}

int cli_run_app(const struct app_options *options)
{
    struct app_end end = app_run(options);
    cli_end_app(&end);
    return end.status;
}

/* Who reads the log as JSON reads this as JSON, too. */
struct config *cli_host_config(const struct cli *cli, const struct config_sources *sources)
{
    struct err err;
    enum log_format format = LOG_AUTO;
    struct config *config = config_load_as(sources, &format, &err);
    if (config)
        return config;
    if (format == LOG_TEXT || (format == LOG_AUTO && isatty(STDERR_FILENO))) {
        say_error(cli, "%s", err.message);
        return NULL;
    }
    log_setup(LOG_INFO, format);
    config_log_refused(sources, &err, "");
    return NULL;
}

int cli_run(struct cli *cli)
{
    const struct config_sources sources = cli_sources(cli);
    struct config *config = cli_host_config(cli, &sources);
    if (!config)
        return CLI_USAGE;
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
