/* main - the way of a command line to its command. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

/* The place of the command's name in argv: it may stand behind options of its own. If no word fits,
 * the first one that names a command, whose parser then says what is wrong before it. 0: there is
 * none. */
static int find_name(int argc, char **argv)
{
    int first = 0;
    for (int i = 1; i < argc; i++) {
        const struct cli_command *command = cli_find(argv[i]);
        if (command && cli_only_options(command, i - 1, argv + 1))
            return i;
        if (command && !first)
            first = i;
        if (argv[1][0] != '-')
            break;
    }
    return first;
}

/* The command's name comes first; what was before it goes behind it. */
static void lead_with(char **argv, int place)
{
    char *name = argv[place];
    memmove(argv + 2, argv + 1, (size_t)(place - 1) * sizeof *argv);
    argv[1] = name;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
    int parsed = cli_parse(cli, argc, argv);
    if (parsed == 0)
        return cli->command->run(cli);
    if (parsed > 0)
        return parsed;
    cli_print_command(cli->command);
    return CLI_OK;
}

/* If a standard stream is closed, something else has to take its number, or the next descriptor
 * would: the log would go into a connection, and libuv aborts when it has to close one of these. It
 * is opened the wrong way round, so that reading or writing fails, as before. */
static bool keep_standard_places(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct cli cli = {.program = argc > 0 ? argv[0] : "moonbus", .began_ns = clock_now_ns()};
    if (!keep_standard_places())
        return CLI_FAILED; /* where nobody could be told why */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        cli_print_commands(stderr);
        return CLI_USAGE;
    }
    int place = find_name(argc, argv);
    if (place > 1)
        lead_with(argv, place);
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0)
        name = "version";
    else if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    cli.command = cli_find(name);
    if (!cli.command)
        return cli_unknown_command(&cli, name);
    int status = cli_flush(run_command(&cli, argc - 1, argv + 1));
    cli_clear(&cli);
    return status;
}
