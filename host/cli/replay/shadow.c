/* shadow - moonbus shadow: what new code does on stored inputs, compared with what was stored. */
#include <string.h>

#include "base/value.h"
#include "cli/replay/replay.h"

#define COUNT_MOST 1000000L

static void put_shadow(lua_State *L, const struct replay_command *command)
{
    const struct cli *cli = command->cli;
    replay_put_list(L, "handlers", cli->args, cli->arg_count);
    replay_put_list(L, "outputs", (char *const *)cli->replay.outputs, cli->replay.output_count);
    replay_put_list(L, "ignored", (char *const *)cli->replay.ignored, cli->replay.ignored_count);
    replay_put(L, "stream", cli->stream);
    replay_put(L, "since_shown", cli->replay.since ? cli->replay.since : "1h");
    lua_pushnumber(L, command->since);
    lua_setfield(L, -2, "since");
    lua_pushnumber(L, command->count);
    lua_setfield(L, -2, "count");
}

static int check_names(const struct cli *cli)
{
    struct err err;
    if (!cli->stream)
        return cli_usage(cli, "which inputs? --stream STREAM");
    if (name_check("stream name", cli->stream, strlen(cli->stream), &err) != 0)
        return cli_usage(cli, "--stream: %s", err.message);
    for (int i = 0; i < cli->replay.output_count; i++) {
        const char *name = cli->replay.outputs[i];
        if (name_check("stream name", name, strlen(name), &err) != 0)
            return cli_usage(cli, "--output: %s", err.message);
    }
    return CLI_OK;
}

int cli_shadow(struct cli *cli)
{
    struct replay_command command = {
        .cli = cli, .module = "moonbus.replay.shadow", .put = put_shadow, .count = 10000};
    int status = check_names(cli);
    if (status)
        return status;
    int64_t since_ns = cli_duration(cli, "--since", cli->replay.since ? cli->replay.since : "1h");
    if (since_ns < 0)
        return CLI_USAGE;
    command.since = (double)since_ns / NS_PER_S;
    if (cli->count &&
        (command.count = (double)cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    return replay_run(&command);
}
