/* admin - moonbus reload, log-level and drain: a request to the admin endpoint of a running host.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/value.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/say.h"

/* Returns how many there were. */
static int print_notes(const cJSON *notes)
{
    const cJSON *note;
    cJSON_ArrayForEach(note, notes)
        fprintf(json_true(note, "refused") ? stderr : stdout, "%s\n",
                json_text_or(note, "message", ""));
    return cJSON_GetArraySize(notes);
}

int cli_reload(struct cli *cli)
{
    struct answer answer;
    int status = cli_ask(cli, cli->each ? "/reload?each=1" : "/reload", true, &answer);
    if (status == 0) {
        int notes = print_notes(json_field(answer.json, "config"));
        notes += print_notes(json_field(answer.json, "scripts"));
        if (notes == 0)
            printf("nothing has changed\n");
        status = json_true(answer.json, "ok") ? CLI_OK : CLI_FAILED;
    }
    answer_clear(&answer);
    return status;
}
int cli_log_level(struct cli *cli)
{
    char path[64] = "/log";
    enum log_level level;
    struct answer answer;
    const char *wanted = cli->arg_count > 0 ? cli->args[0] : NULL;
    if (wanted && !log_parse_level(wanted, &level))
        return cli_usage(cli, "LEVEL must be debug, info, warn, error or off, not \"%s\"", wanted);
    if (wanted)
        snprintf(path, sizeof path, "/log?level=%s", wanted);
    int status = cli_ask(cli, path, wanted, &answer);
    if (status == 0) {
        const char *now = json_text_or(answer.json, "level", "");
        const char *configured = json_text_or(answer.json, "configured", "");
        bool as_configured = strcmp(now, configured) == 0;
        printf("%s%s%s%s\n", now,
               as_configured ? "" : " (configured: ", as_configured ? "" : configured,
               as_configured ? "" : ")");
    }
    answer_clear(&answer);
    return status;
}

#define UNFINISHED 3 /* as the host itself ends */

int cli_drain(struct cli *cli)
{
    struct answer answer;
    int status = cli_ask(cli, "/drain", true, &answer);
    int unfinished = (int)json_number(answer.json, "unfinished", 0);
    double pid = json_number(answer.json, "pid", 0);
    if (status == 0 && !json_true(answer.json, "ok")) {
        say_error(cli, "the host at %s, pid %.0f: %d handler%s unfinished at the graceful deadline",
                  answer.from, pid, unfinished, unfinished == 1 ? " was" : "s were");
        status = UNFINISHED;
    } else if (status == 0) {
        printf("drained: the host at %s, pid %.0f\n", answer.from, pid);
    }
    answer_clear(&answer);
    return status;
}
