/* stage - see stage.h. */
#include "cli/test/stage.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/consume/consumer.h"
#include "bus/letter.h"
#include "cli/test/coverage.h"
#include "cli/test/live.h"
#include "engine/engine.h"
#include "sim/sim.h"
#include "vm/plain.h"

#define TYPE "moonbus.stage"
#define GRACEFUL_MS 1000.0
#define RESULTS_MOST ((size_t)64 << 20)
#define CALM 100     /* requests live for 50 minutes, heartbeats come each 200 s */
#define MANY 1000    /* messages sent by what goes on because of them */
#define STEPS 300000 /* a second or so of computing in which no time passes */

struct test_stage {
    struct sim *sim;          /* owned; NULL: closed */
    struct sim_host *host;    /* owned; NULL: nothing is loaded */
    char *only;               /* owned; the one handler that serves; NULL: all */
    struct live_client *live; /* owned; NULL: the world is simulated */
    char path[1024];          /* of its script */
    bool serves, left;        /* left: something hangs in it, or has no end, and stays */
};

static struct test_stage *check(lua_State *L)
{
    struct test_stage *stage = luaL_checkudata(L, 1, TYPE);
    if (!stage->sim)
        luaL_error(L, "the script under test has been closed");
    coverage_of(stage->path);
    return stage;
}

static int answer(lua_State *L, const struct test_stage *stage, bool ok)
{
    if (ok) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, sim_error(stage->sim));
    return 2;
}

/* --- life --- */

static const struct sim_settings *settings_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, TYPE ".settings");
    const struct sim_settings *settings = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return settings;
}

/* stage.new([seed [, now [, only [, max_payload]]]]): now: its time of day begins with the real
 * one; only: the one handler that serves, whose requests, publishes to JetStream among them, are
 * answered by whoever takes them out; max_payload: of its server. */
static int stage_new(lua_State *L)
{
    double seed = luaL_optnumber(L, 1, 1);
    const char *only = luaL_optstring(L, 3, NULL);
    struct err err;
    struct live_client *live = live_is_on() && !only ? live_open(&err) : NULL;
    if (live_is_on() && !only && !live)
        return luaL_error(L, "%s", err.message);
    const struct sim_options options = {.outside = live ? live_outside(live) : NULL,
                                        .seed = (uint64_t)seed,
                                        .wall_ns = lua_toboolean(L, 2) ? clock_wall_ns() : 0,
                                        .max_payload = (size_t)luaL_optnumber(L, 4, 0)};
    struct test_stage *stage = lua_newuserdata(L, sizeof *stage);
    *stage = (struct test_stage){0};
    luaL_getmetatable(L, TYPE);
    lua_setmetatable(L, -2);
    stage->live = live;
    stage->only = only ? strdup(only) : NULL;
    stage->sim = sim_new_with(&options);
    sim_only(stage->sim, stage->only);
    if (only)
        sim_divert_all(stage->sim);
    sim_keep_sent(stage->sim);
    sim_allow(stage->sim, STEPS);
    sim_answer_http(stage->sim);
    sim_calm(stage->sim, CALM);
    log_set_level(LOG_DEBUG); /* there each run says how it ended */
    return 1;
}

static int stage_load(lua_State *L)
{
    struct test_stage *stage = check(L);
    const char *path = luaL_checkstring(L, 2), *name = luaL_checkstring(L, 3);
    snprintf(stage->path, sizeof stage->path, "%s", path);
    coverage_of(stage->path);
    if (!stage->host)
        stage->host = sim_host_new(stage->sim, settings_of(L));
    const char *given = luaL_optstring(L, 4, NULL); /* bus.settings; NULL: the config's */
    bool ok = stage->host && (!given || sim_host_settings(stage->host, given));
    return answer(L, stage, ok && sim_host_load(stage->host, path, name));
}

static int stage_serve(lua_State *L)
{
    struct test_stage *stage = check(L);
    stage->serves = true;
    return answer(L, stage, sim_host_serve(stage->host));
}

/* What does not end stays as it is: the process is about to end anyway. */
static void end(struct test_stage *stage)
{
    struct sim *sim = stage->sim;
    stage->sim = NULL;
    if (!sim)
        return;
    if (stage->left)
        return;
    sim_hold_naks(sim, false);
    if (stage->host && sim_host_end(stage->host, GRACEFUL_MS) < 0)
        stage->left = true;
    if (!stage->left && sim_close(sim)) {
        sim_free(sim);
        free(stage->only);
    }
    live_close(stage->live, stage->left);
    stage->live = NULL;
}

static int stage_close(lua_State *L)
{
    end(luaL_checkudata(L, 1, TYPE));
    return 0;
}

/* --- time --- */

/* Is it beside a real server, so that its time cannot jump? */
static int stage_live(lua_State *L)
{
    lua_pushboolean(L, check(L)->live != NULL);
    return 1;
}

static int stage_is_live(lua_State *L)
{
    lua_pushboolean(L, live_is_on());
    return 1;
}

static int stage_now(lua_State *L)
{
    lua_pushnumber(L, sim_now_ms(check(L)->sim));
    return 1;
}

/* Did hosts send so much that it is what keeps them busy? */
static bool sent_many(struct test_stage *stage)
{
    struct sim_message message;
    int count = 0;
    while (count < MANY && sim_take_sent(stage->sim, &message))
        count++;
    return count == MANY;
}

/* What goes round and round, or waits for nothing, is not gone on with. */
static int went_on(lua_State *L, struct test_stage *stage, bool ok)
{
    stage->left = stage->left || !ok;
    if (ok || !strstr(sim_error(stage->sim), SIM_ENDLESS))
        return answer(L, stage, ok);
    lua_pushnil(L);
    lua_pushfstring(L, "it goes round and round, and no time passes: %s",
                    sent_many(stage)
                        ? "does a handler publish what it takes itself?"
                        : "does a handler wait in a loop, and for no time at all, as by "
                          "bus.sleep(0)?");
    return 2;
}

static int stage_settle(lua_State *L)
{
    struct test_stage *stage = check(L);
    return went_on(L, stage, sim_settle(stage->sim));
}

static int stage_step(lua_State *L)
{
    struct test_stage *stage = check(L);
    return went_on(L, stage, sim_step(stage->sim, luaL_checknumber(L, 2)));
}

static int stage_busy(lua_State *L)
{
    struct test_stage *stage = check(L);
    lua_pushboolean(L, stage->serves && sim_host_busy(stage->host));
    return 1;
}

static int stage_unsettled(lua_State *L)
{
    lua_pushnumber(L, (double)sim_unsettled(check(L)->sim));
    return 1;
}

static int stage_notes(lua_State *L)
{
    lua_pushstring(L, sim_notes(check(L)->sim));
    return 1;
}

/* --- messages --- */

static int stage_publish(lua_State *L)
{
    struct test_stage *stage = check(L);
    size_t len;
    const char *subject = luaL_checkstring(L, 2), *data = luaL_checklstring(L, 3, &len);
    const char *headers = luaL_optstring(L, 4, NULL), *reply = luaL_optstring(L, 5, NULL);
    sim_publish(stage->sim, luaL_optnumber(L, 6, 0), subject, reply, headers, data, len);
    return 0;
}

/* The block of headers is read in Lua. */
static void push_message(lua_State *L, const struct sim_message *message)
{
    lua_createtable(L, 0, 5);
    lua_pushstring(L, message->subject);
    lua_setfield(L, -2, "subject");
    lua_pushlstring(L, message->data, message->len);
    lua_setfield(L, -2, "data");
    lua_pushlstring(L, message->headers ? message->headers : "", message->headers_len);
    lua_setfield(L, -2, "headers");
    lua_pushboolean(L, message->diverted);
    lua_setfield(L, -2, "diverted");
    if (message->reply) {
        lua_pushstring(L, message->reply);
        lua_setfield(L, -2, "reply");
    }
}

static int stage_take(lua_State *L)
{
    struct sim_message message;
    if (!sim_take(check(L)->sim, &message))
        return 0;
    push_message(L, &message);
    return 1;
}

static int stage_sent(lua_State *L)
{
    struct sim_message message;
    if (!sim_take_sent(check(L)->sim, &message))
        return 0;
    push_message(L, &message);
    return 1;
}

static int stage_divert(lua_State *L)
{
    sim_divert(check(L)->sim, luaL_checkstring(L, 2));
    return 0;
}

static int stage_hold_naks(lua_State *L)
{
    struct test_stage *stage = check(L);
    return answer(L, stage, sim_hold_naks(stage->sim, lua_toboolean(L, 2)));
}

/* s:place { stream, durable, sequence, time, subject, block, data }: as sim_place; time as servers
 * write it, block: of headers, or nil. nil and a sentence. */
static int stage_place(lua_State *L)
{
    struct test_stage *stage = check(L);
    static const char *const fields[] = {"stream", "durable", "time", "subject", "block", "data"};
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        lua_getfield(L, 2, fields[i]); /* at 3 and above: they stay while they are used */
    lua_getfield(L, 2, "sequence");
    size_t headers_len = 0, len = 0;
    const char *headers = lua_tolstring(L, 7, &headers_len);
    const char *data = luaL_checklstring(L, 8, &len);
    const struct sim_placed placed = {.stream = luaL_checkstring(L, 3),
                                      .durable = luaL_checkstring(L, 4),
                                      .timestamp_ns = stored_time(luaL_checkstring(L, 5)),
                                      .subject = luaL_checkstring(L, 6),
                                      .headers = headers,
                                      .headers_len = headers_len,
                                      .data = data,
                                      .len = len,
                                      .sequence = (uint64_t)luaL_checknumber(L, 9)};
    if (sim_place(stage->sim, &placed)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "no stream %s with a durable %s", placed.stream, placed.durable);
    return 2;
}

static int stage_count_from(lua_State *L)
{
    lua_pushboolean(L, sim_count_from(check(L)->sim, luaL_checkstring(L, 2), luaL_checkstring(L, 3),
                                      (uint64_t)luaL_checknumber(L, 4)));
    return 1;
}

/* --- calls of HTTP servers --- */

static int stage_take_http(lua_State *L)
{
    struct sim_http_call call;
    if (!sim_take_http(check(L)->sim, &call))
        return 0;
    lua_createtable(L, 0, 5);
    lua_pushnumber(L, (double)call.number);
    lua_setfield(L, -2, "number");
    lua_pushstring(L, call.method);
    lua_setfield(L, -2, "method");
    lua_pushstring(L, call.url);
    lua_setfield(L, -2, "url");
    lua_pushlstring(L, call.headers, call.headers_len);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, call.body, call.body_len);
    lua_setfield(L, -2, "body");
    return 1;
}

/* s:answer_http(number, status, headers, how many, body, after_ms [, code, sentence]) */
static int stage_answer_http(lua_State *L)
{
    struct test_stage *stage = check(L);
    struct sim_http_reply reply = {
        .status = (int)luaL_checkinteger(L, 3),
        .headers = luaL_checkstring(L, 4),
        .header_count = (size_t)luaL_checkinteger(L, 5),
        .after_ms = luaL_checknumber(L, 7),
        .error = luaL_optstring(L, 8, NULL),
        .sentence = luaL_optstring(L, 9, ""),
    };
    reply.body = luaL_checklstring(L, 6, &reply.body_len);
    sim_http_answer(stage->sim, (uint64_t)luaL_checknumber(L, 2), &reply);
    return 0;
}

/* s:go_out(number): the call is made for real. */
static int stage_go_out(lua_State *L)
{
    sim_http_go_out(check(L)->sim, (uint64_t)luaL_checknumber(L, 2));
    return 0;
}

/* --- calls of bus.offload --- */

static int stage_stub_offload(lua_State *L)
{
    sim_answer_offload(check(L)->sim, luaL_checkstring(L, 2));
    return 0;
}

/* number, module, function, and the arguments */
static int stage_take_offload(lua_State *L)
{
    struct sim_offload_call call;
    if (!sim_take_offload(check(L)->sim, &call))
        return 0;
    lua_pushnumber(L, (double)call.number);
    lua_pushstring(L, call.module);
    lua_pushstring(L, call.function);
    return 3 + (call.arguments ? plain_push(L, call.arguments) : 0);
}

/* s:answer_offload(number, after_ms, code or nil, sentence or nil, ...): true; nil and what cannot
 * be a result. */
static int stage_answer_offload(lua_State *L)
{
    struct test_stage *stage = check(L);
    const struct plain_rules rules = {
        .verb = "passed between threads", .each = "result", .limit_bytes = RESULTS_MOST};
    const char *code = luaL_optstring(L, 4, NULL), *sentence = luaL_optstring(L, 5, "");
    int first = 6, count = lua_gettop(L) - first + 1;
    struct err err = {.code = ERR_NONE};
    struct plain *results = NULL;
    if (!code && count > 0 && !(results = plain_copy(L, first, count, &rules, &err))) {
        lua_pushnil(L);
        lua_pushstring(L, err.message);
        return 2;
    }
    if (code)
        err_set(&err, err_named(code) != ERR_NONE ? err_named(code) : ERR_OFFLOAD, "%s", sentence);
    sim_offload_answer(stage->sim, (uint64_t)luaL_checknumber(L, 2), results, code ? &err : NULL,
                       luaL_checknumber(L, 3));
    lua_pushboolean(L, 1);
    return 1;
}

/* --- what is registered --- */

static void put_string(lua_State *L, const char *key, const char *value)
{
    lua_pushstring(L, value); /* NULL: nil */
    lua_setfield(L, -2, key);
}

static void put_consumer(lua_State *L, const struct consumer_spec *consumer)
{
    put_string(L, "stream", consumer->stream);
    put_string(L, "durable", consumer->durable);
    lua_pushboolean(L, consumer->bind);
    lua_setfield(L, -2, "bind");
    lua_createtable(L, consumer->filter_count, 0);
    for (int i = 0; i < consumer->filter_count; i++) {
        lua_pushstring(L, consumer->filters[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "filters");
}

static int stage_registrations(lua_State *L)
{
    const struct test_stage *stage = check(L);
    struct registration_view view;
    lua_newtable(L);
    for (int i = 0; stage->host && sim_host_registration(stage->host, i, &view); i++) {
        lua_newtable(L);
        put_string(L, "handler", view.handler);
        put_string(L, "binding", view.binding);
        put_string(L, "subject", view.subject);
        put_string(L, "dead_letter", view.dead_letter);
        lua_pushnumber(L, (double)view.timeout_ns / NS_PER_MS);
        lua_setfield(L, -2, "timeout_ms");
        lua_pushnumber(L, view.batch_size);
        lua_setfield(L, -2, "batch_size");
        if (view.consumer)
            put_consumer(L, view.consumer);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg methods[] = {
    {"load", stage_load},
    {"serve", stage_serve},
    {"close", stage_close},
    {"live", stage_live},
    {"now", stage_now},
    {"settle", stage_settle},
    {"step", stage_step},
    {"busy", stage_busy},
    {"unsettled", stage_unsettled},
    {"notes", stage_notes},
    {"publish", stage_publish},
    {"take", stage_take},
    {"sent", stage_sent},
    {"divert", stage_divert},
    {"place", stage_place},
    {"hold_naks", stage_hold_naks},
    {"count_from", stage_count_from},
    {"take_http", stage_take_http},
    {"answer_http", stage_answer_http},
    {"stub_offload", stage_stub_offload},
    {"take_offload", stage_take_offload},
    {"answer_offload", stage_answer_offload},
    {"go_out", stage_go_out},
    {"registrations", stage_registrations},
    {NULL, NULL},
};

void stage_open(lua_State *L, struct sim_settings *settings)
{
    lua_pushlightuserdata(L, settings);
    lua_setfield(L, LUA_REGISTRYINDEX, TYPE ".settings");
    luaL_newmetatable(L, TYPE);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, stage_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, stage_new);
    lua_setfield(L, -2, "new");
    lua_pushcfunction(L, stage_is_live);
    lua_setfield(L, -2, "is_live");
}
