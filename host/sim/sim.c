/* sim - the world, its time, and what is noted in it. */
#include "sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/strand.h"
#include "base/thread.h"
#include "base/value.h"
#include "sim/sim_private.h"

#define CALL_NS ((uint64_t)3600 * (uint64_t)NS_PER_S)

/* The one that is used last: handlers' notes and the log have no other way to it. */
static struct sim *here;

struct sim *sim_here(void)
{
    return here;
}

/* --- settings --- */

static char settings_error[1100];

const char *sim_settings_error(void)
{
    return settings_error;
}

/* text: changed. How many. */
static int read_flags(char *text, struct config_flag *flags, int most)
{
    int count = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line && count < most;
         line = strtok_r(NULL, "\n", &save)) {
        char *equals = strchr(line, '=');
        if (!equals)
            continue;
        *equals = '\0';
        flags[count++] = (struct config_flag){.key = line, .value = equals + 1, .spelling = line};
    }
    return count;
}

struct sim_settings *sim_settings_new(const char *lines)
{
    struct config_flag flags[32];
    char *text = strdup(lines);
    struct err err;
    struct config_sources sources = {.no_file = true, .flags = flags};
    sources.flag_count = read_flags(text, flags, 32);
    struct sim_settings *settings = calloc(1, sizeof *settings);
    settings->config = config_load(&sources, &err);
    free(text);
    if (settings->config)
        return settings;
    snprintf(settings_error, sizeof settings_error, "%s", err.message);
    free(settings);
    return NULL;
}

struct sim_settings *sim_settings_of(struct config *config)
{
    struct sim_settings *settings = calloc(1, sizeof *settings);
    if (settings)
        settings->config = config;
    return settings;
}

void sim_settings_free(struct sim_settings *settings)
{
    config_free(settings->config);
    free(settings);
}

/* --- notes --- */

static uint64_t since_start_ns(const struct sim *sim)
{
    if (!sim->world)
        return clock_now_ns() - sim->began_ns;
    return world_now_ns(sim->world) - (uint64_t)1000 * (uint64_t)NS_PER_S;
}

void sim_note(struct sim *sim, const char *kind, const char *format, ...)
{
    struct text line;
    va_list args;
    text_init(&line);
    va_start(args, format);
    text_vprintf(&line, format, args);
    va_end(args);
    sim_guard(sim);
    uint64_t us = (since_start_ns(sim) + 500) / 1000;
    text_printf(&sim->notes, "%" PRIu64 ".%03u\t%s\t%s\n", us / 1000, (unsigned)(us % 1000), kind,
                line.bytes);
    sim_unguard(sim);
    /* How much of the wire is noted is for who looks. */
    if (sim->world && strncmp(kind, "sent", 4) != 0 && strncmp(kind, "got", 3) != 0)
        world_note(sim->world, line.bytes);
    text_clear(&line);
}

const char *sim_notes(struct sim *sim)
{
    text_clear(&sim->taken);
    text_init(&sim->taken);
    sim_guard(sim);
    text_add(&sim->taken, sim->notes.bytes, sim->notes.len);
    text_clear(&sim->notes);
    text_init(&sim->notes);
    sim_unguard(sim);
    text_add(&sim->taken, "", 1);
    return sim->taken.bytes;
}

void sim_note_wire(struct sim *sim, const char *subjects)
{
    sim->wire_notes = subjects;
}

static void on_log(void *owner, const char *line, size_t len)
{
    (void)owner;
    struct sim *sim = thread_mark() ? thread_mark() : here;
    if (sim && len > 0)
        sim_note(sim, "log", "%.*s", (int)len - 1, line);
}

void sim_handler_note(const char *text)
{
    sim_note(here, "note", "%s", text);
}

void sim_handler_burn(double ms)
{
    thread_sleep_until(clock_now_ns() + (uint64_t)(ms * NS_PER_MS));
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(sim->error, sizeof sim->error, format, args);
    va_end(args);
}

const char *sim_error(const struct sim *sim)
{
    return sim->error;
}

/* --- the world --- */

struct sim *sim_new(uint64_t seed, unsigned yields, unsigned false_wakes)
{
    const struct sim_options options = {
        .seed = seed, .yields = yields, .false_wakes = false_wakes, .any_thread = seed % 2 == 0};
    return sim_new_with(&options);
}

struct sim *sim_new_with(const struct sim_options *given)
{
    struct sim *sim = calloc(1, sizeof *sim);
    const struct world_options options = {.seed = given->seed,
                                          .yields = given->yields,
                                          .false_wakes = given->false_wakes,
                                          .wall_ns = given->wall_ns,
                                          .max_steps = UINT64_C(20000000)};
    text_init(&sim->notes);
    text_init(&sim->taken);
    text_init(&sim->http_shown);
    sim->real = given->outside;
    sim->began_ns = clock_now_ns();
    sim->world = sim->real ? NULL : world_new(&options);
    sim->seed = given->seed;
    sim->max_payload = given->max_payload;
    sim->any_thread = given->any_thread;
    here = sim;
    log_setup(LOG_INFO, LOG_JSON);
    log_divert(on_log, NULL);
    sim_wire_open(sim);
    return sim;
}

void sim_free(struct sim *sim)
{
    if (here == sim)
        here = NULL;
    if (sim->world)
        world_free(sim->world);
    sim_live_free(sim);
    text_clear(&sim->notes);
    text_clear(&sim->taken);
    sim_wire_free(sim);
    sim_sent_free(sim);
    sim_http_free(sim);
    sim_offload_free(sim);
    free(sim->came);
    free(sim);
}

static const char *const ends[] = {
    [WORLD_STUCK] = "nobody can run, and no time is waited for",
    [WORLD_LATE] = "it does not end within an hour",
    [WORLD_ENDLESS] = SIM_ENDLESS,
};

void sim_enter(struct sim *sim)
{
    here = sim;
    thread_set_mark(sim->world ? NULL : sim);
    if (sim->world && sim->allowed)
        world_allow(sim->world, sim->allowed);
}

void sim_allow(struct sim *sim, uint64_t steps)
{
    sim->allowed = steps;
}

static bool was_done(struct sim *sim, const char *what, enum world_end end)
{
    if (end != WORLD_DONE)
        sim_fail(sim, "%s: %s\n%s", what, ends[end], world_report(sim->world));
    return end == WORLD_DONE;
}

bool sim_call(struct sim *sim, const char *name, void *(*run)(void *), void *arg)
{
    sim_enter(sim);
    if (!sim->world) {
        run(arg);
        return true;
    }
    uint64_t until_ns = world_now_ns(sim->world) + CALL_NS;
    return was_done(sim, name, world_call(sim->world, name, run, arg, until_ns, NULL));
}

uint64_t sim_now_ns(const struct sim *sim)
{
    return sim->world ? world_now_ns(sim->world) : clock_now_ns();
}

UNCHECKED void sim_guard(struct sim *sim)
{
    if (!sim->world)
        mutex_lock(&sim->lock);
}

UNCHECKED void sim_unguard(struct sim *sim)
{
    if (sim->world)
        return;
    cond_broadcast(&sim->changed);
    mutex_unlock(&sim->lock);
}

double sim_now_ms(const struct sim *sim)
{
    return (double)since_start_ns(sim) / 1e6;
}

bool sim_advance(struct sim *sim, double ms)
{
    uint64_t until_ns = world_now_ns(sim->world) + (uint64_t)(ms * NS_PER_MS);
    sim_enter(sim);
    return was_done(sim, "advance", world_run_until(sim->world, until_ns));
}

void sim_set_wall(struct sim *sim, double by_ms)
{
    world_set_wall(sim->world, (int64_t)(by_ms * NS_PER_MS));
}

bool sim_settle(struct sim *sim)
{
    sim_enter(sim);
    if (!sim->world)
        return sim_live_settle(sim);
    return was_done(sim, "settle", world_settle(sim->world));
}

struct moment {
    const struct world *world;
    uint64_t ns;
};

static bool has_passed(void *arg)
{
    const struct moment *moment = arg;
    return world_now_ns(moment->world) > moment->ns;
}

bool sim_step(struct sim *sim, double until_ms)
{
    if (!sim->world)
        return sim_live_step(sim,
                             sim->began_ns + (uint64_t)((until_ms > 0 ? until_ms : 0) * NS_PER_MS));
    struct moment now = {sim->world, world_now_ns(sim->world)};
    double ms = until_ms - sim_now_ms(sim);
    uint64_t until_ns = now.ns + (uint64_t)((ms > 0 ? ms : 0) * NS_PER_MS);
    sim_enter(sim);
    enum world_end end = world_run_while_not(sim->world, has_passed, &now, until_ns);
    if (end == WORLD_LATE) /* nothing happens until then */
        end = world_run_until(sim->world, until_ns);
    return was_done(sim, "step", end);
}

uint64_t sim_trace(const struct sim *sim)
{
    return world_trace(sim->world);
}

uint64_t sim_steps(const struct sim *sim)
{
    return world_steps(sim->world);
}

int sim_fibers(const struct sim *sim)
{
    return world_fibers(sim->world);
}

double sim_random(struct sim *sim)
{
    return (double)(world_random(sim->world) >> 11) * 0x1.0p-53;
}

const char *sim_report(struct sim *sim)
{
    return world_report(sim->world);
}

/* --- memory --- */

/* jemalloc's, where it is linked in. */
int mallctl(const char *name, void *old, size_t *len, void *fresh, size_t fresh_len)
    __attribute__((weak));

int64_t sim_bytes(void)
{
    uint64_t allocated = 0, freed = 0;
    size_t len = sizeof allocated;
    if (!mallctl || mallctl("thread.allocated", &allocated, &len, NULL, 0) != 0 ||
        mallctl("thread.deallocated", &freed, &len, NULL, 0) != 0)
        return 0;
    return (int64_t)(allocated - freed);
}
