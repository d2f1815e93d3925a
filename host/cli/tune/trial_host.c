/* The child: started, asked, stopped. */
#include "cli/tune/trial_host.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/child.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/value.h"
#include "cli/cli.h"

#define READY_NS (20 * NS_PER_S)
#define FAILED_NS (2 * NS_PER_S) /* with an error in its log it is not waited for any longer */
#define POLL_NS (5 * NS_PER_MS)
#define ASK_MS 3000L
#define NO_FILE_STATUS 127
#define LOG_BYTES_MOST (8u << 20) /* of what a round logged: the beginning tells enough */
#define LOG_TEXTS_MOST 5
#define SIGNAL_STATUS 128

/* --- starting --- */

/* After fork: async-signal-safe calls only. */
static void become_host(const struct trial_host *host, char *const *argv, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(NO_FILE_STATUS);
    setpgid(0, 0);
    int in = open("/dev/null", O_RDONLY);
    int out = open(host->output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int log = open(host->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || out < 0 || log < 0)
        _exit(NO_FILE_STATUS);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv("/proc/self/exe", argv);
    _exit(NO_FILE_STATUS);
}

/* argv of the child: the list is the caller's to free, what it holds is borrowed. */
static char **make_argv(const struct cli *cli, char *instructions)
{
    char **argv = calloc((size_t)cli->arg_count + 8, sizeof *argv);
    int count = 0;
    if (!argv)
        return NULL;
    argv[count++] = (char *)cli->program;
    argv[count++] = "tune";
    argv[count++] = "--as-host";
    argv[count++] = instructions;
    if (cli->config_file) {
        argv[count++] = "--config";
        argv[count++] = (char *)cli->config_file;
    }
    argv[count++] = "--";
    for (int i = 0; i < cli->arg_count; i++)
        argv[count++] = cli->args[i];
    return argv;
}

static int spawn(struct trial_host *host, const struct cli *cli, char *instructions,
                 struct err *err)
{
    char **argv = make_argv(cli, instructions);
    if (!argv)
        return err_set(err, ERR_MEMORY, "out of memory");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become_host(host, argv, parent);
    free(argv);
    if (pid < 0)
        return err_set(err, ERR_SYSTEM, "cannot start the host: %s", strerror(errno));
    host->pid = pid;
    host->began_ns = clock_now_ns();
    return 0;
}

int trial_host_start(struct trial_host *host, const struct cli *cli, const cJSON *instructions,
                     const char *folder, struct err *err)
{
    int port = child_free_port();
    void *curl = host->curl ? host->curl : curl_easy_init();
    cJSON *told = cJSON_Duplicate(instructions, true);
    *host = (struct trial_host){.curl = curl};
    snprintf(host->admin, sizeof host->admin, "127.0.0.1:%d", port);
    snprintf(host->log, sizeof host->log, "%s/host.log", folder);
    snprintf(host->output, sizeof host->output, "%s/host.out", folder);
    cJSON_AddStringToObject(told, "admin", host->admin);
    char *text = cJSON_PrintUnformatted(told);
    cJSON_Delete(told);
    int code = port == 0 ? err_set(err, ERR_SYSTEM, "no port on 127.0.0.1 is free")
               : !text   ? err_set(err, ERR_MEMORY, "out of memory")
                         : spawn(host, cli, text, err);
    cJSON_free(text);
    return code;
}

/* --- its end --- */

bool trial_host_gone(struct trial_host *host)
{
    int status;
    if (host->pid == 0)
        return true;
    if (waitpid(host->pid, &status, WNOHANG) != host->pid)
        return false;
    host->pid = 0;
    host->ended = true;
    host->exit = WIFSIGNALED(status) ? SIGNAL_STATUS + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

static void pause_a_moment(void)
{
    thread_sleep_until(clock_now_ns() + (uint64_t)POLL_NS);
}

void trial_host_stop(struct trial_host *host, int64_t most_ns)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)most_ns;
    bool killed = false;
    if (host->pid)
        kill(host->pid, SIGTERM);
    while (!trial_host_gone(host)) {
        if (!killed && clock_now_ns() >= until_ns) {
            kill(-host->pid, SIGKILL);
            kill(host->pid, SIGKILL);
            killed = true;
        }
        pause_a_moment();
    }
}

void trial_host_clear(struct trial_host *host)
{
    if (host->curl)
        curl_easy_cleanup(host->curl);
    host->curl = NULL;
}

/* --- its log --- */

static char *read_file(const char *path, size_t most)
{
    FILE *file = fopen(path, "re");
    char *bytes = file ? malloc(most + 1) : NULL;
    if (bytes)
        bytes[fread(bytes, 1, most, file)] = '\0';
    if (file)
        fclose(file);
    return bytes;
}

/* "orders.lua:14: no_responders: ..."; what differs from time to time is cut off. */
static void describe(const cJSON *event, struct text *out)
{
    const char *msg = json_text_or(event, "msg", ""), *file = json_text(event, "file");
    const char *code = json_text(event, "code"), *end = strstr(msg, "; nak in ");
    if (file)
        text_printf(out, "%s:%d: ", file, json_int(event, "line", 0));
    if (code && strncmp(msg, code, strlen(code)) != 0)
        text_printf(out, "%s: ", code);
    text_add(out, msg, end ? (size_t)(end - msg) : strlen(msg));
}

static void count_text(cJSON *list, const char *text)
{
    cJSON *entry;
    cJSON_ArrayForEach(entry, list) {
        if (strcmp(json_text_or(entry, "text", ""), text) == 0) {
            cJSON *count = cJSON_GetObjectItem(entry, "count");
            cJSON_SetNumberValue(count, count->valuedouble + 1);
            return;
        }
    }
    if (cJSON_GetArraySize(list) >= LOG_TEXTS_MOST)
        return;
    entry = cJSON_CreateObject();
    cJSON_AddStringToObject(entry, "text", text);
    cJSON_AddNumberToObject(entry, "count", 1);
    cJSON_AddItemToArray(list, entry);
}

/* Warnings about how scripts are set are not what a load test is about. */
static bool matters(const cJSON *event)
{
    return strcmp(json_text_or(event, "level", ""), "error") == 0;
}

cJSON *trial_host_log(const struct trial_host *host)
{
    cJSON *list = cJSON_CreateArray();
    char *bytes = read_file(host->log, LOG_BYTES_MOST), *rest = bytes, *line;
    while (rest && (line = strsep(&rest, "\n"))) {
        cJSON *event = cJSON_Parse(line);
        struct text text;
        text_init(&text);
        if (matters(event)) {
            describe(event, &text);
            count_text(list, text.bytes);
        } else if (!event && *line) {
            count_text(list, line); /* a sanitizer, a library */
        }
        text_clear(&text);
        cJSON_Delete(event);
    }
    free(bytes);
    return list;
}

/* False: it has logged no error. */
static bool first_words(const struct trial_host *host, char *words, size_t size)
{
    cJSON *list = trial_host_log(host);
    const char *text = json_text_or(cJSON_GetArrayItem(list, 0), "text", "");
    snprintf(words, size, "%s", text);
    cJSON_Delete(list);
    return *words;
}

int trial_host_say_end(const struct trial_host *host, struct err *err)
{
    char words[600];
    bool killed = host->exit > SIGNAL_STATUS, any = first_words(host, words, sizeof words);
    if (killed)
        return err_set(err, ERR_SYSTEM, "it was killed by signal %d%s%s",
                       host->exit - SIGNAL_STATUS, any ? ": " : "", words);
    if (any)
        return err_set(err, ERR_SYSTEM, "%s", words);
    return err_set(err, ERR_SYSTEM, "it ended with status %d", host->exit);
}

/* --- asking --- */

static size_t on_data(char *data, size_t size, size_t count, void *owner)
{
    text_add(owner, data, size * count);
    return size * count;
}

cJSON *trial_host_ask(struct trial_host *host, const char *path)
{
    char url[128];
    struct text text;
    CURL *curl = host->curl;
    cJSON *answer = NULL;
    text_init(&text);
    snprintf(url, sizeof url, "http://%s%s", host->admin, path);
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ASK_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &text);
    if (curl_easy_perform(curl) == CURLE_OK)
        answer = cJSON_ParseWithLength(text.bytes, text.len);
    text_clear(&text);
    return answer;
}

/* 1: it serves; 0: it may yet; negative: err. */
static int look_ready(struct trial_host *host, uint64_t until_ns, struct err *err)
{
    char words[600];
    uint64_t now_ns = clock_now_ns();
    cJSON *answer = trial_host_ask(host, "/readyz");
    bool ready = json_true(answer, "ok");
    const char *reason = json_first_text(answer, "reasons");
    int code = ready ? 1 : 0;
    if (!ready && now_ns >= host->began_ns + (uint64_t)FAILED_NS &&
        first_words(host, words, sizeof words))
        code = err_set(err, ERR_SYSTEM, "the host is not ready: %s", words);
    else if (!ready && now_ns >= until_ns)
        code = err_set(err, ERR_TIMEOUT, "the host is not ready after 20 s: %s",
                       reason ? reason : "it does not answer");
    cJSON_Delete(answer);
    return code;
}

int trial_host_wait_ready(struct trial_host *host, bool (*hurry)(void *owner), void *owner,
                          struct err *err)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)READY_NS;
    for (;;) {
        if (trial_host_gone(host))
            return trial_host_say_end(host, err);
        if (hurry && hurry(owner))
            return err_set(err, ERR_CANCELLED, "interrupted");
        int code = look_ready(host, until_ns, err);
        if (code)
            return code < 0 ? code : 0;
        pause_a_moment();
    }
}

int trial_host_wait_end(struct trial_host *host, struct err *err)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)READY_NS;
    while (!trial_host_gone(host) && clock_now_ns() < until_ns)
        pause_a_moment();
    if (host->pid)
        trial_host_stop(host, 0);
    return host->exit == 0 ? 0 : trial_host_say_end(host, err);
}

bool trial_host_usage(const struct trial_host *host, struct trial_usage *usage)
{
    char path[64];
    long pages = 0;
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)host->pid);
    char *stat = host->pid ? read_file(path, 4096) : NULL;
    /* Behind the name, which may hold anything: fields 14 and 15 are times, 24 is memory. */
    const char *rest = stat ? strrchr(stat, ')') : NULL;
    bool ok = rest && sscanf(rest,
                             ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d "
                             "%*d %*d %*d %*u %*u %ld",
                             &user, &system, &pages) == 3;
    free(stat);
    usage->cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    usage->rss_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
    return ok;
}
