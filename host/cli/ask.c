/* ask - a request to the admin endpoint, by libcurl, and what went wrong with it. */
#include "cli/ask.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/value.h"
#include "cli/cli.h"
#include "cli/say.h"

#define TIMEOUT_NS (60 * NS_PER_S)
#define CONNECT_MS 2000L
#define ANSWER_BYTES_MOST (16u << 20)
#define UNAUTHORIZED 401

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
    static const char *const everywhere[] = {"0.0.0.0:", "[::]:", ":"};
    const char *address = config->admin, *host = "";
    for (size_t i = 0; i < sizeof everywhere / sizeof *everywhere && !*host; i++) {
        if (strncmp(address, everywhere[i], strlen(everywhere[i])) == 0) {
            address += strlen(everywhere[i]);
            host = "127.0.0.1:";
        }
    }
    snprintf(url, size, "http://%s%s%s", host, address, path);
}

/* A host listens where its config said when it started. */
static void say_unreached(const struct cli *cli, const struct config *config)
{
    if (!config->file || config->admin_given)
        say_error(cli, "no host listens at %s; --admin ADDR:PORT says where", config->admin);
    else if (config->admin_stated)
        say_error(cli,
                  "no host listens at %s, the address in %s; a host that was started before that "
                  "changed still listens at the old one; --admin ADDR:PORT says where",
                  config->admin, config->file);
    else
        say_error(cli,
                  "no host listens at %s, the default, as %s states no admin; --admin ADDR:PORT "
                  "says where",
                  config->admin, config->file);
}

static void say_off(const struct cli *cli, const struct config *config)
{
    cli_usage(cli,
              "%s \"off\": such a host cannot be asked; --admin ADDR:PORT says where another "
              "one listens",
              config->admin_given ? "--admin or MOONBUS_ADMIN is" : "the config says admin =");
}

/* 0, or an exit status, after it has said why. */
static int perform(const struct cli *cli, const struct config *config, const char *path, bool post,
                   int64_t timeout_ns, struct answer *answer)
{
    char url[400], reason[CURL_ERROR_SIZE] = "";
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = headers_of(config);
    if (!curl) {
        say_error(cli, "out of memory");
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
        say_error(cli, "%s: %s", url, *reason ? reason : curl_easy_strerror(code));
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code == CURLE_OK ? 0 : CLI_FAILED;
}

void answer_clear(struct answer *answer)
{
    cJSON_Delete(answer->json);
    text_clear(&answer->text);
}

/* The settings. A broken config file is no reason not to ask a host, which runs with the last good
 * one. But its address stands in that file, and at the default address another host may listen.
 * NULL, after it has said why. */
static struct config *load(const struct cli *cli)
{
    struct err err;
    struct config_sources sources = cli_sources(cli);
    struct config *without, *config = cli_config(&sources, &without, &err);
    bool misnamed = cli->config_file && access(cli->config_file, F_OK) != 0;
    if (config || without)
        say_as(config ? config : without);
    if (config) {
        if (!config->file && !config->admin_given)
            say_note(cli, "there is no %s here: asking the host at %s", config_path(&sources),
                     config->admin);
        return config;
    }
    if (without && without->admin_given && !misnamed) {
        say_note(cli, "%s; without it, asking the host at %s", err.message, without->admin);
        return without;
    }
    say_error(cli, "%s%s", err.message,
              !without   ? ""
              : misnamed ? "; name the one that is there, or, without -c, --admin ADDR:PORT says "
                           "where the host is"
                         : "; so it does not tell where the host is: --admin ADDR:PORT says it");
    config_free(without);
    return NULL;
}

/* 0, or an exit status, after it has said why. */
static int judge_reply(const struct cli *cli, const struct config *config, struct answer *answer)
{
    const char *error = json_text_or(answer->json, "error", "");
    if (answer->json && !*error)
        return 0;
    if (answer->json && answer->status == UNAUTHORIZED)
        say_error(cli,
                  "the host at %s %s: MOONBUS_ADMIN_TOKEN, or admin_token in the config file (HTTP "
                  "status %ld)",
                  answer->from,
                  config->admin_token ? "has another admin_token than the one that was shown"
                                      : "wants its admin_token",
                  answer->status);
    else
        say_error(cli, "%s (HTTP status %ld)", *error ? error : "that is not a host of moonbus",
                  answer->status);
    return CLI_FAILED;
}

int cli_ask(struct cli *cli, const char *path, bool post, struct answer *answer)
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
        say_off(cli, config);
    else
        status = perform(cli, config, path, post, timeout_ns, answer);
    if (status == 0) {
        answer->json = cJSON_ParseWithLength(answer->text.bytes, answer->text.len);
        status = judge_reply(cli, config, answer);
    }
    config_free(config);
    return status;
}
