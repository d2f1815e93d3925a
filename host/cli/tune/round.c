/* One round: an empty server, a new host with the settings of the round, messages at its rate, and
 * what is seen of the host meanwhile. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/thread.h"
#include "base/value.h"
#include "cli/tune/player.h"
#include "cli/tune/tune_private.h"

#define TICK_NS (20 * NS_PER_MS)
#define SAMPLE_NS (200 * NS_PER_MS)
#define STOP_EXTRA_NS (5 * NS_PER_S) /* beyond graceful_timeout: then it hangs */
#define STOP_INTERRUPTED_NS (1 * NS_PER_S)

struct round_state {
    struct tune *tune;
    const cJSON *asked; /* the mind's */
    struct player *player;
    cJSON *out;        /* what was measured */
    uint64_t began_ns; /* of playing */
    double warm, length, drain;
    bool died;
};

/* --- instructions --- */

static void add_flags(cJSON *told, const cJSON *flags)
{
    cJSON *out = cJSON_AddObjectToObject(told, "flags");
    const cJSON *flag;
    cJSON_ArrayForEach(flag, flags) {
        char text[40];
        bool seconds = strcmp(flag->string, "graceful_timeout") == 0;
        snprintf(text, sizeof text, seconds ? "%.0fms" : "%.0f",
                 seconds ? flag->valuedouble * 1000 : flag->valuedouble);
        cJSON_AddStringToObject(out, flag->string, text);
    }
}

static cJSON *instructions(const struct round_state *state)
{
    cJSON *told = cJSON_CreateObject();
    cJSON_AddStringToObject(told, "server", tune_server_url(&state->tune->server));
    cJSON_AddBoolToObject(told, "no_http", !state->tune->cli->tune.allow_http);
    cJSON_AddItemToObject(told, "settings",
                          cJSON_Duplicate(json_field(state->asked, "settings"), true));
    add_flags(told, json_field(state->asked, "flags"));
    return told;
}

/* --- looking --- */

static double since(uint64_t began_ns)
{
    return (double)(clock_now_ns() - began_ns) / (double)NS_PER_S;
}

/* The meters, the time, and how many messages were sent for each handler. Without an answer: what
 * was seen before. */
static void look(struct round_state *state, const char *name)
{
    struct tune *tune = state->tune;
    struct trial_usage usage;
    char key[64];
    cJSON *sent = cJSON_CreateObject();
    const cJSON *handler;
    int i = 0;
    cJSON_ArrayForEach(handler, tune->handlers)
        cJSON_AddNumberToObject(sent, json_text_or(handler, "handler", ""),
                                (double)player_count(state->player, i++));
    cJSON *status = trial_host_ask(&tune->host, "/status");
    cJSON *trial = cJSON_DetachItemFromObject(status, "trial");
    if (trial)
        cJSON_AddItemToObject(state->out, name, trial);
    snprintf(key, sizeof key, "sent_%s", name);
    cJSON_AddItemToObject(state->out, key, sent);
    snprintf(key, sizeof key, "at_%s", name);
    cJSON_AddNumberToObject(state->out, key, since(state->began_ns));
    if (trial_host_usage(&tune->host, &usage)) {
        snprintf(key, sizeof key, "cpu_%s", name);
        cJSON_AddNumberToObject(state->out, key, usage.cpu_seconds);
    }
    cJSON_Delete(status);
}

/* What is seen only now and then. */
static void sample(struct round_state *state, double *rss_bytes)
{
    struct trial_usage usage;
    cJSON *status = trial_host_ask(&state->tune->host, "/status");
    const cJSON *offload = json_field(status, "offload");
    if (offload) {
        double busy = json_number(offload, "running", 0) + json_number(offload, "queued", 0) +
                      json_number(offload, "waiting", 0);
        cJSON_AddItemToArray(cJSON_GetObjectItem(state->out, "offload"), cJSON_CreateNumber(busy));
        cJSON_DeleteItemFromObject(state->out, "offload_calls");
        cJSON_AddNumberToObject(state->out, "offload_calls",
                                json_number(offload, "calls", 0) + busy);
    }
    if (trial_host_usage(&state->tune->host, &usage) && usage.rss_bytes > *rss_bytes)
        *rss_bytes = usage.rss_bytes;
    cJSON_Delete(status);
}

static bool goes_on(struct round_state *state)
{
    tune_server_look(&state->tune->server);
    state->died = state->died || trial_host_gone(&state->tune->host);
    return !state->died && !tune_interrupted(state->tune);
}

static void pause_a_moment(void)
{
    thread_sleep_until(clock_now_ns() + (uint64_t)TICK_NS);
}

static void watch_playing(struct round_state *state)
{
    bool looked = false;
    double rss_bytes = 0;
    uint64_t sampled_ns = clock_now_ns();
    const char *title = json_text_or(state->asked, "title", "");
    double rate = json_number(state->asked, "rate", 0);
    while (since(state->began_ns) < state->length && goes_on(state)) {
        if (!looked && since(state->began_ns) >= state->warm) {
            look(state, "first");
            looked = true;
        }
        if (clock_now_ns() - sampled_ns >= (uint64_t)SAMPLE_NS) {
            sampled_ns = clock_now_ns();
            sample(state, &rss_bytes);
        }
        tune_progress(state->tune, title, rate, since(state->began_ns));
        pause_a_moment();
    }
    if (goes_on(state))
        look(state, "ended");
    cJSON_AddNumberToObject(state->out, "rss_bytes", rss_bytes);
}

static double handled(const cJSON *trial, const char *name)
{
    const cJSON *handler, *pair;
    double count = 0;
    cJSON_ArrayForEach(handler, json_field(trial, "handlers")) {
        if (strcmp(json_text_or(handler, "handler", ""), name) != 0)
            continue;
        cJSON_ArrayForEach(pair, json_field(handler, "wait"))
            count += cJSON_GetArrayItem(pair, 1)->valuedouble;
    }
    return count;
}

static bool all_handled(struct round_state *state)
{
    cJSON *status = trial_host_ask(&state->tune->host, "/status");
    const cJSON *handler, *trial = json_field(status, "trial");
    int i = 0;
    bool all = trial != NULL;
    cJSON_ArrayForEach(handler, state->tune->handlers) {
        const char *name = json_text_or(handler, "handler", "");
        all = all && handled(trial, name) >= (double)player_count(state->player, i);
        i++;
    }
    cJSON_Delete(status);
    return all;
}

/* Runs that go on when the playing has ended are waited for, for a while. */
static void watch_rest(struct round_state *state)
{
    uint64_t began_ns = clock_now_ns();
    while (since(began_ns) < state->drain && goes_on(state) && !all_handled(state))
        pause_a_moment();
    if (goes_on(state))
        look(state, "last");
}

/* --- the end --- */

static void stop_host(struct round_state *state)
{
    struct tune *tune = state->tune;
    const cJSON *flags = json_field(state->asked, "flags");
    double graceful =
        json_number(flags, "graceful_timeout",
                    json_number(json_field(tune->found, "flags"), "graceful_timeout", 25));
    int64_t most_ns = tune->interrupted ? STOP_INTERRUPTED_NS
                                        : (int64_t)(graceful * (double)NS_PER_S) + STOP_EXTRA_NS;
    uint64_t began_ns = clock_now_ns();
    trial_host_stop(&tune->host, most_ns);
    cJSON_AddNumberToObject(state->out, "stop", since(began_ns));
    cJSON_AddNumberToObject(state->out, "exit", tune->host.exit);
    cJSON_AddItemToObject(state->out, "log", trial_host_log(&tune->host));
}

static void stop_player(struct round_state *state)
{
    struct player_end end;
    player_stop(state->player, &end);
    double reached = end.seconds > 0 ? (double)end.stored / end.seconds : 0;
    cJSON_AddNumberToObject(state->out, "reached", reached);
    cJSON_AddNumberToObject(state->out, "refused", (double)end.refused);
    cJSON_AddStringToObject(state->out, "limit", *end.refusal ? end.refusal : end.limit);
}

static void play(struct round_state *state)
{
    state->began_ns = clock_now_ns();
    watch_playing(state);
    if (json_true(state->asked, "under_load")) { /* the stop comes while messages do */
        stop_host(state);
        player_halt(state->player);
    } else {
        player_halt(state->player);
        watch_rest(state);
        stop_host(state);
    }
    stop_player(state);
}

static int begin_round(struct round_state *state, struct err *err)
{
    struct tune *tune = state->tune;
    int code = tune_server_renew(&tune->server, tune->streams, err);
    cJSON *told = instructions(state);
    if (!code)
        code = trial_host_start(&tune->host, tune->cli, told, tune->server.own.folder, err);
    if (!code)
        code = trial_host_wait_ready(&tune->host, tune_interrupted, tune, err);
    cJSON_Delete(told);
    const struct player_options options = {
        .nc = tune->server.nc,
        .messages = &tune->messages,
        .handlers = tune->handlers,
        .rate = json_number(state->asked, "rate", 1),
    };
    state->player = code ? NULL : player_start(&options, err);
    return state->player ? 0 : (int)err->code;
}

cJSON *tune_play(struct tune *tune, const cJSON *asked)
{
    struct err err = {0};
    struct round_state state = {.tune = tune,
                                .asked = asked,
                                .out = cJSON_CreateObject(),
                                .warm = json_number(asked, "warm", 0),
                                .length = json_number(asked, "seconds", 1),
                                .drain = json_number(asked, "drain", 0)};
    cJSON_AddItemToObject(state.out, "offload", cJSON_CreateArray());
    cJSON_AddNumberToObject(state.out, "rate", json_number(asked, "rate", 0));
    if (begin_round(&state, &err) == 0) {
        play(&state);
        if (state.died)
            trial_host_say_end(&tune->host, &err);
    } else if (tune->host.ended && !tune->interrupted) { /* which these settings may have done */
        state.died = true;
    } else {
        trial_host_stop(&tune->host, 0);
        cJSON_Delete(state.out);
        state.out = NULL;
        if (!tune->interrupted)
            tune_failed("%s", err.message);
    }
    if (state.died && state.out)
        cJSON_AddStringToObject(state.out, "died", err.message);
    tune->spent += state.length;
    tune_progress_clear(tune);
    return state.out;
}
