/* judging - has a host that serves judged, here or on the pool, and logs what is new: a finding is
 * known by the hash of what it says. */
#include "app/judging.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_private.h"
#include "app/facts.h"
#include "base/container.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/value.h"

#define ASK_NS (5 * NS_PER_S)

static uint64_t add_text(uint64_t hash, const char *text)
{
    text = text ? text : "";
    return hash_add(hash, text, strlen(text) + 1);
}

/* Not of its line: an edit above moves it. */
static uint64_t hash_of(const struct judge_finding *finding)
{
    uint64_t hash = add_text(HASH_START, finding->judgement->name);
    hash = add_text(hash, finding->place.script);
    hash = add_text(hash, finding->place.handler);
    return add_text(hash, finding->text);
}

static bool was_found(const struct judging_found *found, uint64_t hash)
{
    for (int i = 0; i < found->count; i++) {
        if (found->list[i] == hash)
            return true;
    }
    return false;
}

static void log_finding(const struct judge_finding *finding)
{
    const struct log_context context = {
        .script = finding->place.script,
        .handler = finding->place.handler,
        .file = finding->place.file,
        .line = finding->place.line,
        .code = finding->judgement->name,
    };
    log_event(finding->severity == JUDGE_NOTE ? LOG_INFO : LOG_WARN, &context, "%s", finding->text);
}

/* place: of the judging, which has what was found last time. The server's has nothing that a look
 * finds, too: the next look alone knows whether that is gone. */
static void tell_new(struct judging *judging, struct judging_found *place,
                     const struct judge_findings *findings)
{
    struct judging_found now = {.list = calloc((size_t)findings->count + 1, sizeof *now.list)};
    for (int i = 0; i < findings->count && now.list; i++) {
        const struct judge_finding *finding = &findings->list[i];
        uint64_t hash = hash_of(finding);
        if (place == &judging->asked && was_found(&judging->looked, hash))
            continue;
        /* What cannot be served is refused, in other words. */
        if (finding->severity != JUDGE_ERROR && !was_found(&judging->looked, hash) &&
            !was_found(&judging->asked, hash) && !was_found(&now, hash))
            log_finding(finding);
        now.list[now.count++] = hash;
    }
    free(place->list);
    *place = now;
}

/* look: the one whose facts these are; 0: a new one. What the server says of an older one is late:
 * it is asked once more. */
static void judge_and_log(struct judging *judging, struct facts *facts, unsigned look)
{
    struct judge_findings findings = {0};
    facts->judged.serving = true;
    judge_all(&facts->judged, &findings);
    mutex_lock(&judging->lock);
    if (!look) {
        judging->looks++;
        tell_new(judging, &judging->looked, &findings);
    } else if (look == judging->looks) {
        tell_new(judging, &judging->asked, &findings);
    }
    mutex_unlock(&judging->lock);
    judge_findings_clear(&findings);
}

void judging_look(struct app *app)
{
    struct facts *facts = facts_new(app);
    if (facts)
        judge_and_log(&app->judging, facts, 0);
    facts_free(facts);
}

/* --- with what the server has --- */

static void ask_and_judge(struct pool_job *job)
{
    struct judging *judging = container_of(job, struct judging, job);
    struct app *app = judging->app;
    struct err err;
    int code = facts_ask(judging->facts, app->bus, false, clock_now_ns() + ASK_NS, &err);
    if (!code)
        judge_and_log(judging, judging->facts, judging->asked_look);
    facts_free(judging->facts);
    judging->facts = NULL;
    atomic_store(&judging->asking, false);
    uv_async_send(&app->wake);
}

void judging_ask(struct app *app)
{
    struct judging *judging = &app->judging;
    if (atomic_load(&app->stopping))
        return;
    judging->again = atomic_load(&judging->asking);
    if (judging->again)
        return;
    struct facts *facts = facts_new(app);
    judging->facts = facts ? facts_copy(facts) : NULL;
    facts_free(facts);
    if (!judging->facts)
        return;
    mutex_lock(&judging->lock);
    judging->asked_look = judging->looks;
    mutex_unlock(&judging->lock);
    atomic_store(&judging->asking, true);
    judging->job.run = ask_and_judge;
    pool_submit(app->pool, &judging->job);
}

void judging_asked(struct app *app)
{
    if (app->judging.again && !atomic_load(&app->judging.asking))
        judging_ask(app);
}

void judging_init(struct judging *judging, struct app *app)
{
    mutex_init(&judging->lock);
    judging->app = app;
}

void judging_clear(struct judging *judging)
{
    mutex_destroy(&judging->lock);
    free(judging->looked.list);
    free(judging->asked.list);
    facts_free(judging->facts);
}
