/* trial_main - the side of the host that is tested: this process runs handlers as `moonbus run`
 * does, with settings that it is told; or only says what they register.
 *
 * Instructions, a JSON object: "server" (a URL; absent: it registers, prints that, and ends),
 * "admin", "no_http", "flags" (config leaves and their texts), "settings" (engine/version/trial.h;
 * durations in seconds). */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "app/report_trial.h"
#include "base/json.h"
#include "base/value.h"
#include "cli/cli.h"
#include "cli/tune/trial_host.h"

#define FLAGS_MOST 16
#define OWN_FLAGS 4

static int64_t to_ns(const cJSON *object, const char *name)
{
    return (int64_t)(json_number(object, name, 0) * (double)NS_PER_S);
}

static int read_settings(const cJSON *list, struct trial_settings *settings)
{
    int count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        settings[count++] = (struct trial_settings){.handler = json_text(item, "handler"),
                                                    .concurrency = json_int(item, "concurrency", 0),
                                                    .batch_size = json_int(item, "batch", 0),
                                                    .timeout_ns = to_ns(item, "timeout"),
                                                    .ack_wait_ns = to_ns(item, "ack_wait")};
    }
    return count;
}

static int read_flags(const cJSON *told, struct config_flag *flags)
{
    const struct config_flag own[OWN_FLAGS] = {
        {"log.level", "error", "tune"},
        {"log.format", "json", "tune"},
        {"watch", "false", "tune"},
        {"admin", json_text_or(told, "admin", "off"), "tune"},
    };
    int count = OWN_FLAGS;
    const cJSON *flag;
    memcpy(flags, own, sizeof own);
    cJSON_ArrayForEach(flag, json_field(told, "flags")) {
        if (count < FLAGS_MOST && cJSON_IsString(flag))
            flags[count++] = (struct config_flag){flag->string, flag->valuestring, "tune"};
    }
    return count;
}

/* The settings of the process that count when nothing is told. */
static void add_settings(cJSON *found, const struct config *config)
{
    cJSON *flags = cJSON_AddObjectToObject(found, "flags");
    cJSON_AddNumberToObject(flags, "workers", config->workers);
    cJSON_AddNumberToObject(flags, "limits.memory", (double)config->limit_memory_bytes);
    cJSON_AddNumberToObject(flags, "limits.offload_threads", config->limit_offload_threads);
    cJSON_AddNumberToObject(flags, "graceful_timeout",
                            (double)config->graceful_timeout_ns / (double)NS_PER_S);
}

static enum app_exit on_loaded(void *owner, struct app *app)
{
    cJSON *found = report_trial(engine_trial(app_engine(app)));
    add_settings(found, owner);
    char *text = cJSON_PrintUnformatted(found);
    if (text)
        printf("%s\n", text);
    cJSON_free(text);
    cJSON_Delete(found);
    return APP_OK;
}

/* What it does here is nobody else's business: no manager waits for it, and no collector of traces
 * is there for a test. */
static void forget_surroundings(void)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    setenv("OTEL_SDK_DISABLED", "true", 1);
}

static int run_trial_host(struct cli *cli, const cJSON *told, struct config *config,
                          const struct config_sources *sources)
{
    const cJSON *list = json_field(told, "settings");
    struct trial_settings settings[cJSON_GetArraySize(list) + 1];
    const struct trial_options trial = {.settings = settings,
                                        .count = read_settings(list, settings)};
    const char *server = json_text(told, "server");
    const struct app_options options = {
        .config = config,
        .sources = sources,
        .paths = (const char *const *)cli->args,
        .path_count = cli->arg_count,
        .trial = &trial,
        .no_http = json_true(told, "no_http"),
        .began_ns = cli->began_ns,
        .on_loaded = server ? NULL : on_loaded,
        .owner = config,
    };
    struct err err;
    if (server && config_use_server(config, server, &err) != 0)
        return CLI_FAILED;
    return cli_run_app(&options);
}

int trial_host_main(struct cli *cli)
{
    struct err err;
    struct config_flag flags[FLAGS_MOST];
    cJSON *told = cJSON_Parse(cli->tune.as_host);
    if (!told)
        return cli_usage(cli, "--as-host is for `moonbus tune` itself");
    forget_surroundings();
    struct config_sources sources = {.file = cli->config_file, .flags = flags};
    sources.flag_count = read_flags(told, flags);
    struct config *config = config_load(&sources, &err);
    int status = CLI_USAGE;
    if (config) {
        free(config->admin_token); /* at its loopback port nobody needs one */
        config->admin_token = NULL;
        status = run_trial_host(cli, told, config, &sources);
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    config_free(config);
    cJSON_Delete(told);
    return status;
}
