/* admin - moonbus reload, status and drain: a request to the admin endpoint of a running host. */
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/value.h"
#include "cli/cli.h"

#define TIMEOUT_NS (60 * NS_PER_S)
#define CONNECT_MS 2000L
#define ANSWER_BYTES_MOST (16u << 20)
#define UNAUTHORIZED 401

/* What the host said. */
struct answer {
    char from[300]; /* the address that was asked */
    long status;
    struct text text;
    cJSON *json; /* NULL: it is none */
};

static size_t on_data(char *data, size_t size, size_t count, void *owner)
{
    struct text *text = owner;
    if (text->len + size * count > ANSWER_BYTES_MOST)
        return 0;
    text_add(text, data, size * count);
    return size * count;
}

static struct curl_slist *headers_of(const struct config *config)
{
    char line[1024];
    if (!config->admin_token)
        return NULL;
    snprintf(line, sizeof line, "Authorization: Bearer %s", config->admin_token);
    return curl_slist_append(NULL, line);
}

/* "0.0.0.0:8223" is where a host listens, not where it is to be reached. */
static void url_of(const struct config *config, const char *path, char *url, size_t size)
{
    const char *any = "0.0.0.0:", *address = config->admin;
    bool everywhere = strncmp(address, any, strlen(any)) == 0;
    snprintf(url, size, "http://%s%s%s", everywhere ? "127.0.0.1:" : "",
             everywhere ? address + strlen(any) : address, path);
}

/* A host listens where its config said when it started. */
static void say_unreached(const struct cli *cli, const struct config *config)
{
    bool by_file = config->file && !config->admin_given;
    fprintf(stderr, "moonbus %s: no host listens at %s", cli->command->name, config->admin);
    if (by_file)
        fprintf(stderr,
                ", where it would by %s as it is now; one that runs since before that was changed "
                "listens where it did",
                config->file);
    fprintf(stderr, "; --admin ADDR:PORT says where\n");
}

/* 0, or an exit status, said. */
static int perform(const struct cli *cli, const struct config *config, const char *path, bool post,
                   int64_t timeout_ns, struct answer *answer)
{
    char url[400], reason[CURL_ERROR_SIZE] = "";
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = headers_of(config);
    if (!curl) {
        fprintf(stderr, "moonbus %s: out of memory\n", cli->command->name);
        return CLI_FAILED;
    }
    url_of(config, path, url, sizeof url);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(timeout_ns / NS_PER_MS));
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer->text);
    if (post)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
    if (code == CURLE_COULDNT_CONNECT)
        say_unreached(cli, config);
    else if (code != CURLE_OK)
        fprintf(stderr, "moonbus %s: %s: %s\n", cli->command->name, url,
                *reason ? reason : curl_easy_strerror(code));
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code == CURLE_OK ? 0 : CLI_FAILED;
}

static const char *text_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static double number_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static bool true_at(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void clear(struct answer *answer)
{
    cJSON_Delete(answer->json);
    text_clear(&answer->text);
}

/* A config file that is broken is no reason not to ask a host that runs by one that was good; but
 * where that host is, the file would have said, and what listens at the default address may be
 * another one. NULL, said. */
static struct config *load(const struct cli *cli)
{
    struct err err;
    const char *name = cli->command->name;
    struct config_sources sources = cli_sources(cli);
    struct config *without, *config = cli_config(&sources, &without, &err);
    bool misnamed = cli->config_file && access(cli->config_file, F_OK) != 0;
    if (config) {
        if (!config->file && !config->admin_given)
            fprintf(stderr, "moonbus %s: there is no %s here: asking the host at %s\n", name,
                    config_path(&sources), config->admin);
        return config;
    }
    if (without && without->admin_given && !misnamed) {
        fprintf(stderr, "moonbus %s: %s; without it, asking the host at %s\n", name, err.message,
                without->admin);
        return without;
    }
    fprintf(stderr, "moonbus %s: %s%s\n", name, err.message,
            !without   ? ""
            : misnamed ? "; name the one that is there, or, without -c, --admin ADDR:PORT says "
                         "where the host is"
                       : "; so it does not tell where the host is: --admin ADDR:PORT says it");
    config_free(without);
    return NULL;
}

/* 0, or an exit status, said. */
static int judge(const struct cli *cli, const struct config *config, struct answer *answer)
{
    const char *error = text_at(answer->json, "error");
    if (answer->json && !*error)
        return 0;
    fprintf(stderr, "moonbus %s: ", cli->command->name);
    if (answer->json && answer->status == UNAUTHORIZED)
        fprintf(stderr, "the host at %s %s: MOONBUS_ADMIN_TOKEN, or admin_token in the config file",
                answer->from,
                config->admin_token ? "has another admin_token than the one that was shown"
                                    : "wants its admin_token");
    else
        fprintf(stderr, "%s", *error ? error : "that is not a host of moonbus");
    fprintf(stderr, " (HTTP status %ld)\n", answer->status);
    return CLI_FAILED;
}

/* Asks, as configured. 0, or an exit status, said. */
static int ask(struct cli *cli, const char *path, bool post, struct answer *answer)
{
    int64_t timeout_ns = TIMEOUT_NS;
    *answer = (struct answer){0};
    text_init(&answer->text);
    if (cli->timeout && (timeout_ns = cli_duration(cli, "--timeout", cli->timeout)) < 0)
        return CLI_USAGE;
    struct config *config = load(cli);
    if (!config)
        return CLI_USAGE;
    int status = CLI_USAGE;
    snprintf(answer->from, sizeof answer->from, "%s", config->admin);
    if (strcmp(config->admin, "off") == 0)
        cli_usage(cli, "the config says admin = \"off\": there is no host to talk to");
    else
        status = perform(cli, config, path, post, timeout_ns, answer);
    if (status == 0) {
        answer->json = cJSON_ParseWithLength(answer->text.bytes, answer->text.len);
        status = judge(cli, config, answer);
    }
    config_free(config);
    return status;
}

/* Returns how many there were. */
static int print_notes(const cJSON *notes)
{
    const cJSON *note;
    cJSON_ArrayForEach(note, notes)
        fprintf(true_at(note, "refused") ? stderr : stdout, "%s\n", text_at(note, "message"));
    return cJSON_GetArraySize(notes);
}

int cli_reload(struct cli *cli)
{
    struct answer answer;
    int status = ask(cli, "/reload", true, &answer);
    if (status == 0) {
        int notes = print_notes(cJSON_GetObjectItem(answer.json, "config"));
        notes += print_notes(cJSON_GetObjectItem(answer.json, "scripts"));
        if (notes == 0)
            printf("nothing has changed\n");
        status = true_at(answer.json, "ok") ? CLI_OK : CLI_FAILED;
    }
    clear(&answer);
    return status;
}

static void print_handler(const cJSON *handler)
{
    static const char *const counts[] = {"ack", "nak",    "term",   "dead_letter",
                                         "ok",  "failed", "dropped"};
    printf("  %-28s running %.0f", text_at(handler, "handler"), number_at(handler, "running"));
    if (number_at(handler, "stuck") > 0)
        printf(" (stuck %.0f)", number_at(handler, "stuck"));
    printf(", queued %.0f", number_at(handler, "queued"));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        double count = number_at(handler, counts[i]);
        if (count > 0)
            printf(", %s %.0f", counts[i], count);
    }
    printf("\n");
}

static void print_config(const cJSON *config)
{
    const char *error = text_at(config, "last_error");
    const cJSON *line;
    if (*error)
        printf("%s: refused: %s\n", text_at(config, "file"), error);
    cJSON_ArrayForEach(line, cJSON_GetObjectItem(config, "at_next_start"))
        printf("%s: %s\n", text_at(config, "file"), line->valuestring);
}

static void print_status(const cJSON *status)
{
    char uptime[32];
    const cJSON *connections = cJSON_GetObjectItem(status, "connections"), *script, *handler;
    int64_t seconds = (int64_t)(number_at(status, "uptime_ms") / 1000);
    value_format_duration(seconds * NS_PER_S, uptime, sizeof uptime);
    printf("moonbus %s, %s, %s, up %s, pid %.0f\n",
           text_at(cJSON_GetObjectItem(status, "versions"), "moonbus"), text_at(status, "state"),
           true_at(status, "ready") ? "ready" : "not ready", uptime, number_at(status, "pid"));
    printf("connections: consume %s, publish %s\n", text_at(connections, "consume"),
           text_at(connections, "publish"));
    print_config(cJSON_GetObjectItem(status, "config"));
    cJSON_ArrayForEach(script, cJSON_GetObjectItem(status, "scripts")) {
        const char *error = text_at(script, "last_error");
        printf("%s: generation %.0f%s\n", text_at(script, "name"), number_at(script, "generation"),
               true_at(script, "served") ? "" : ", not served");
        if (*error)
            printf("  refused: %s\n", error);
        cJSON_ArrayForEach(handler, cJSON_GetObjectItem(script, "handlers"))
            print_handler(handler);
    }
    const cJSON *stuck = cJSON_GetObjectItem(status, "stuck");
    if (number_at(stuck, "threads") > 0)
        printf("stuck: threads that were given up %.0f of at most %.0f\n",
               number_at(stuck, "threads"), number_at(stuck, "limit"));
    const cJSON *offload = cJSON_GetObjectItem(status, "offload"), *store;
    if (number_at(offload, "calls") + number_at(offload, "running") > 0)
        printf("offload: threads %.0f of %.0f, lost %.0f, running %.0f, queued %.0f\n",
               number_at(offload, "threads"), number_at(offload, "limit"),
               number_at(offload, "lost"), number_at(offload, "running"),
               number_at(offload, "queued") + number_at(offload, "waiting"));
    cJSON_ArrayForEach(store, cJSON_GetObjectItem(status, "shared"))
        printf("shared \"%s\": entries %.0f, %.0f of %.0f KB\n", text_at(store, "name"),
               number_at(store, "entries"), number_at(store, "bytes") / 1024,
               number_at(store, "size") / 1024);
}

int cli_status(struct cli *cli)
{
    struct answer answer;
    int status = ask(cli, "/status", false, &answer);
    if (status == 0) {
        if (cli->json)
            printf("%.*s\n", (int)answer.text.len, answer.text.bytes);
        else
            print_status(answer.json);
        bool good = true_at(answer.json, "healthy") && true_at(answer.json, "ready");
        status = good ? CLI_OK : CLI_FAILED;
    }
    clear(&answer);
    return status;
}

#define UNFINISHED 3 /* as the host itself ends */

int cli_drain(struct cli *cli)
{
    struct answer answer;
    int status = ask(cli, "/drain", true, &answer);
    int unfinished = (int)number_at(answer.json, "unfinished");
    double pid = number_at(answer.json, "pid");
    if (status == 0 && !true_at(answer.json, "ok")) {
        fprintf(stderr,
                "moonbus drain: the host at %s, pid %.0f: %d handler%s unfinished at the graceful "
                "deadline\n",
                answer.from, pid, unfinished, unfinished == 1 ? " was" : "s were");
        status = UNFINISHED;
    } else if (status == 0) {
        printf("drained: the host at %s, pid %.0f\n", answer.from, pid);
    }
    clear(&answer);
    return status;
}
