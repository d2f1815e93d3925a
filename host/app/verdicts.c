/* verdicts - how a change ended: a line of the log, the same line for requests that wait for a
 * reload, and the status. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/admin.h"
#include "app/app_private.h"
#include "app/recent.h"
#include "base/value.h"

static double elapsed_ms(const struct handler_file *file, uint64_t ended_ns)
{
    uint64_t began_ns = file->load.began_ns;
    return began_ns && ended_ns > began_ns ? (double)(ended_ns - began_ns) / NS_PER_MS : 0;
}

static void keep_error(struct handler_file *file, char *error)
{
    free(file->last_error);
    file->last_error = error;
}

/* An address has a number behind a colon, too. */
static bool is_script_name(const char *text, size_t len)
{
    return (len > 4 && memcmp(text + len - 4, ".lua", 4) == 0) ||
           (len > 0 && !isdigit((unsigned char)*text) && !memchr(text, ' ', len));
}

void verdict_place(const char *text, struct log_context *context, char *file, size_t size)
{
    size_t len = strcspn(text, ":");
    int line = 0, used = 0;
    if (len >= size || !is_script_name(text, len) ||
        sscanf(text + len, ":%d: %n", &line, &used) != 1 || !used)
        return;
    memcpy(file, text, len);
    file[len] = '\0';
    context->file = file;
    context->line = line;
}

/* failure: what the fields are of; NULL: it was no refusal. */
static void log_verdict(struct app *app, const struct handler_file *file, enum log_level level,
                        bool refused, const struct failure *failure, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

static void log_verdict(struct app *app, const struct handler_file *file, enum log_level level,
                        bool refused, const struct failure *failure, const char *format, ...)
{
    char place[300];
    unsigned generation = file->script ? script_generation(file->script) : 0;
    struct log_context context = {.script = file->name, .generation = generation, .whole = true};
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (failure) {
        context.code = err_name(failure->err.code);
        context.file = failure->file;
        context.line = failure->line;
        context.traceback = failure->traceback;
        if (!failure->file)
            verdict_place(failure->err.message, &context, place, sizeof place);
    }
    log_event(level, &context, "%s", text);
    if (level > LOG_DEBUG) /* else it is told for the second time */
        recent_note_reload(app->recent, !refused, text);
    admin_note(app->admin, file->name, refused, generation, elapsed_ms(file, clock_now_ns()), text);
}

/* "refused, generation 2 keeps running" */
static void say_what_serves(const struct handler_file *file, const char *what, char *text,
                            size_t size)
{
    if (file->script && script_serves(file->script))
        snprintf(text, size, "%s, generation %u keeps running", what,
                 script_generation(file->script));
    else
        snprintf(text, size, "%s, it does not serve", what);
}

void verdict_live(struct app *app, struct handler_file *file, uint64_t ended_ns)
{
    unsigned generation = script_generation(file->script);
    double ms = elapsed_ms(file, ended_ns);
    keep_error(file, NULL);
    file->reloads += generation > 1;
    file->reload_ms = ms;
    file->live_at_ns = clock_wall_ns();
    log_verdict(app, file, LOG_INFO, false, NULL, "%s: generation %u live in %lld ms", file->name,
                generation, (long long)ms);
}

void verdict_unloaded(struct app *app, struct handler_file *file)
{
    bool was_live = file->live_at_ns != 0;
    if (file->script)
        engine_drop_unserved(file->script);
    keep_error(file, NULL);
    file->live_at_ns = 0;
    log_verdict(app, file, LOG_INFO, false, NULL, "%s: %s; it %s", file->name,
                file->dropped ? "the config's handlers no longer lead to it" : "the file is gone",
                was_live ? "is no longer served" : "was not served");
}

void verdict_over(struct app *app, struct handler_file *file)
{
    if (file->last_error && change_is_over(&file->change))
        verdict_unloaded(app, file);
}

/* "orders.lua:14: boom"; owned by the caller; NULL: no memory. */
static char *error_of(const struct failure *failure)
{
    char place[300] = "", *error;
    if (failure->file)
        snprintf(place, sizeof place, "%s:%d: ", failure->file, failure->line);
    return asprintf(&error, "%s%s", place, failure->err.message) < 0 ? NULL : error;
}

void verdict_keep(struct handler_file *file, const struct failure *failure)
{
    keep_error(file, error_of(failure));
}

void verdict_refused(struct app *app, struct handler_file *file, const struct failure *failure)
{
    char what[80], *error = error_of(failure);
    say_what_serves(file, "refused", what, sizeof what);
    /* When it is tried again by itself, the same error is logged once. */
    bool again =
        file->change.by_itself && error && file->last_error && strcmp(error, file->last_error) == 0;
    file->refusals++;
    file->refused_at_ns = clock_wall_ns();
    log_verdict(app, file, again ? LOG_DEBUG : LOG_ERROR, true, failure, "%s: %s: %s", file->name,
                what, error ? error : failure->err.message);
    keep_error(file, error);
}

void verdict_held(struct app *app, struct handler_file *file)
{
    char what[80];
    say_what_serves(file, "held back", what, sizeof what);
    log_verdict(app, file, LOG_WARN, true, NULL,
                "%s: %s: another script of this reload was refused, and it is all or none "
                "(moonbus reload --each: each by itself)",
                file->name, what);
    keep_error(file, strdup("held back: another script of the same reload was refused"));
}
