/* The level: asked for, kept, and what is said where it is too low. */
#include "bus/request/jslevel.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/request/jsapi.h"

#define OPERATION "INFO"
#define UNKNOWN (-1)
/* A level that nobody tells: a server that does not answer is not asked more often. */
#define AGAIN_NS NS_PER_S

struct jslevel {
    struct jsapi *jsapi; /* not owned */
    struct mutex lock;
    int level;
    bool barred;       /* this user may not ask: it is not asked again on this connection */
    bool told;         /* by the connection that there is, or was last */
    unsigned epoch;    /* counts connections: an answer that an earlier one was asked for is none */
    uint64_t asked_ns; /* when it was asked for last; 0: never */
};

/* One question on its way. */
struct level_call {
    struct jslevel *level;
    unsigned epoch;
};

struct jslevel *jslevel_new(struct jsapi *jsapi, struct err *err)
{
    struct jslevel *level = calloc(1, sizeof *level);
    if (!level) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    level->jsapi = jsapi;
    level->level = UNKNOWN;
    mutex_init(&level->lock);
    return level;
}

void jslevel_free(struct jslevel *level)
{
    if (!level)
        return;
    mutex_destroy(&level->lock);
    free(level);
}

/* Servers of before 2.11 say nothing of it. */
static int read_level(const cJSON *answer)
{
    double level = json_number(json_field(answer, "api"), "level", 0);
    return level > 0 && level < 1000 ? (int)level : 0;
}

/* Returns the level as it is now. */
static int take_answer(struct jslevel *level, unsigned epoch, const cJSON *answer)
{
    int read = read_level(answer);
    mutex_lock(&level->lock);
    if (epoch == level->epoch) {
        level->level = read;
        level->told = true;
    }
    mutex_unlock(&level->lock);
    return read;
}

static void note_barred(struct jslevel *level, unsigned epoch)
{
    mutex_lock(&level->lock);
    if (epoch == level->epoch)
        level->barred = true;
    mutex_unlock(&level->lock);
}

static void on_answer(void *owner, const cJSON *answer, int api_code, const struct err *err)
{
    struct level_call *call = owner;
    (void)api_code;
    if (answer)
        take_answer(call->level, call->epoch, answer);
    else if (err->code == ERR_PERMISSION)
        note_barred(call->level, call->epoch);
    free(call); /* any other error: whoever needs the level asks again, and hears it */
}

static void ask(struct jslevel *level, unsigned epoch)
{
    struct level_call *call = malloc(sizeof *call);
    if (!call)
        return;
    *call = (struct level_call){level, epoch};
    if (!jsapi_call(level->jsapi, OPERATION, NULL, on_answer, call, NULL))
        free(call);
}

void jslevel_on_link(struct jslevel *level, enum link_state state)
{
    if (state != LINK_CONNECTED)
        return;
    mutex_lock(&level->lock);
    unsigned epoch = ++level->epoch;
    level->told = level->barred = false;
    level->asked_ns = clock_now_ns();
    mutex_unlock(&level->lock);
    ask(level, epoch);
}

int jslevel_now(struct jslevel *level)
{
    mutex_lock(&level->lock);
    int now = level->level;
    unsigned epoch = level->epoch;
    uint64_t now_ns = level->told ? 0 : clock_now_ns();
    bool due = !level->told && !level->barred && epoch > 0 &&
               now_ns >= level->asked_ns + (uint64_t)AGAIN_NS;
    if (due)
        level->asked_ns = now_ns;
    mutex_unlock(&level->lock);
    if (due)
        ask(level, epoch);
    return now;
}

int jslevel_wait(struct jslevel *level, uint64_t deadline_ns, struct err *err)
{
    mutex_lock(&level->lock);
    int now = level->told ? level->level : UNKNOWN;
    unsigned epoch = level->epoch;
    mutex_unlock(&level->lock);
    if (now != UNKNOWN)
        return now;
    struct err why = {.code = ERR_NONE};
    cJSON *answer = jsapi_wait(level->jsapi, OPERATION, NULL, deadline_ns, NULL, &why);
    if (!answer)
        return err_set(err, why.code, "JetStream does not tell its API level: %s", why.message);
    now = take_answer(level, epoch, answer);
    cJSON_Delete(answer);
    return now;
}

int jslevel_check(int have, int needed, const char *what, struct err *err)
{
    if (have >= needed)
        return 0;
    if (have == UNKNOWN)
        return err_set(err, ERR_UNAVAILABLE,
                       "%s needs nats-server %s or newer (JetStream API level %d), and the server "
                       "has not told its level yet ($JS.API.INFO)",
                       what, jslevel_release(needed), needed);
    return err_set(err, ERR_UNSUPPORTED,
                   "%s needs nats-server %s or newer (JetStream API level %d); this server has "
                   "level %d",
                   what, jslevel_release(needed), needed, have);
}

int jslevel_require(struct jslevel *level, int needed, const char *what, struct err *err)
{
    int have = jslevel_now(level);
    mutex_lock(&level->lock);
    bool barred = level->barred;
    mutex_unlock(&level->lock);
    if (have != UNKNOWN || !barred)
        return jslevel_check(have, needed, what, err);
    char subject[256];
    return err_set(err, ERR_PERMISSION,
                   "%s needs nats-server %s or newer (JetStream API level %d), and this user may "
                   "not ask which it is: let it publish to \"%s\"",
                   what, jslevel_release(needed), needed,
                   jsapi_subject(level->jsapi, OPERATION, subject, sizeof subject));
}

const char *jslevel_release(int level)
{
    static const char *const releases[] = {"2.9", "2.11", "2.12", "2.14", "2.14", "2.15"};
    const int newest = sizeof releases / sizeof *releases - 1;
    if (level > newest)
        return "later than 2.15";
    return releases[level < 0 ? 0 : level];
}
