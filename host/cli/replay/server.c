/* server - see server.h. */
#include "cli/replay/server_private.h"

#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "base/value.h"
#include "cli/say.h"

/* --- the connection --- */

struct replay_server *replay_server_of(lua_State *L)
{
    struct replay_server *server = lua_touserdata(L, lua_upvalueindex(1));
    if (!server->opened)
        luaL_error(L, "the server was not opened");
    return server;
}

/* True, and a name for people; nil and the exit status: it has been said why. */
static int server_open(lua_State *L)
{
    char name[256];
    struct replay_server *server = lua_touserdata(L, lua_upvalueindex(1));
    if (!server->opened) {
        int status = client_open(&server->client, server->cli, true);
        sigset_t *unblocked = &server->client.unblocked; /* a signal ends it */
        sigaddset(unblocked, SIGPROF);
        sigaddset(unblocked, SIGURG);
        pthread_sigmask(SIG_SETMASK, unblocked, NULL);
        if (status == CLI_OK)
            status = jetstream_open(&server->js, &server->client);
        if (status != CLI_OK) {
            jetstream_close(&server->js);
            client_close(&server->client);
            lua_pushnil(L);
            lua_pushinteger(L, status);
            return 2;
        }
        server->opened = true;
    }
    lua_pushboolean(L, 1);
    lua_pushstring(L, client_server(&server->client, name, sizeof name));
    return 2;
}

/* say(text): what is wrong, on standard error, as the command says it. */
static int server_say(lua_State *L)
{
    const struct replay_server *server = lua_touserdata(L, lua_upvalueindex(1));
    fflush(stdout);
    say_error(server->cli, "%s", luaL_checkstring(L, 1));
    return 0;
}

static char alarm_text[400];

/* A handler of signals. */
static void on_alarm(int number)
{
    (void)number;
    if (write(STDERR_FILENO, alarm_text, strlen(alarm_text)) < 0)
        _exit(CLI_USAGE);
    _exit(CLI_FAILED);
}

/* alarm(seconds, text): in so long the command ends, with this; 0: it does not. */
static int server_alarm(lua_State *L)
{
    const struct replay_server *server = lua_touserdata(L, lua_upvalueindex(1));
    snprintf(alarm_text, sizeof alarm_text, "moonbus %s: %s\n", server->cli->command->name,
             luaL_optstring(L, 2, ""));
    signal(SIGALRM, on_alarm);
    alarm((unsigned)luaL_checkinteger(L, 1));
    return 0;
}

/* note(text): what is good to know. */
static int server_note(lua_State *L)
{
    const struct replay_server *server = lua_touserdata(L, lua_upvalueindex(1));
    fflush(stdout);
    say_note(server->cli, "%s", luaL_checkstring(L, 1));
    return 0;
}

void replay_server_close(struct replay_server *server)
{
    if (!server->opened)
        return;
    jetstream_close(&server->js);
    client_close(&server->client);
    server->opened = false;
}

int replay_server_fail(lua_State *L, const struct err *err)
{
    lua_pushnil(L);
    lua_pushstring(L, err_name(err->code));
    lua_pushstring(L, err->message);
    return 3;
}

/* --- what streams hold --- */

static void put_string(lua_State *L, const char *key, const char *value)
{
    lua_pushstring(L, value); /* NULL: nil */
    lua_setfield(L, -2, key);
}

static void put_number(lua_State *L, const char *key, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, key);
}

static void put_block(lua_State *L, const struct headers *headers)
{
    if (headers->count == 0)
        return;
    lua_pushliteral(L, HEADERS_BEGIN);
    lua_pushlstring(L, headers->bytes, headers->len);
    lua_pushliteral(L, HEADERS_END);
    lua_concat(L, 3);
    lua_setfield(L, -2, "block");
}

static void push_message(lua_State *L, const char *stream, const struct stored_message *stored)
{
    char time[VALUE_TIME_BYTES];
    lua_createtable(L, 0, 8);
    put_string(L, "stream", stream);
    put_string(L, "subject", stored->subject);
    put_number(L, "sequence", (double)stored->sequence);
    put_string(L, "time", value_format_time(stored->timestamp_ns, 9, time, sizeof time));
    put_number(L, "seconds", (double)stored->timestamp_ns / NS_PER_S);
    snprintf(time, sizeof time, "%lld", (long long)stored->timestamp_ns);
    put_string(L, "stamp", time);
    put_block(L, &stored->headers);
    lua_pushlstring(L, stored->data, stored->len);
    lua_setfield(L, -2, "data");
}

/* Bytes of headers and data. */
static int server_max_payload(lua_State *L)
{
    lua_pushnumber(L, (double)natsConnection_GetMaxPayload(replay_server_of(L)->client.nc));
    return 1;
}

/* info(stream): first, last (sequences), messages, subjects; retention, and how many messages of a
 * subject it keeps (0: any number). */
static int server_info(lua_State *L)
{
    char operation[300];
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    snprintf(operation, sizeof operation, "STREAM.INFO.%s", luaL_checkstring(L, 1));
    cJSON *info = jetstream_call(&server->js, operation, NULL, NULL, &err);
    if (!info)
        return replay_server_fail(L, &err);
    const cJSON *config = json_field(info, "config"), *state = json_field(info, "state"), *subject;
    int count = 0;
    lua_createtable(L, 0, 4);
    put_number(L, "first", (double)json_unsigned(state, "first_seq", 0));
    put_number(L, "last", (double)json_unsigned(state, "last_seq", 0));
    put_number(L, "messages", (double)json_unsigned(state, "messages", 0));
    put_string(L, "retention", json_text_or(config, "retention", "limits"));
    put_number(L, "per_subject", json_int(config, "max_msgs_per_subject", 0));
    lua_newtable(L);
    cJSON_ArrayForEach(subject, json_field(config, "subjects")) {
        lua_pushstring(L, cJSON_GetStringValue(subject));
        lua_rawseti(L, -2, ++count);
    }
    lua_setfield(L, -2, "subjects");
    cJSON_Delete(info);
    return 1;
}

/* streams(): their names, the first ones. */
static int server_streams(lua_State *L)
{
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    cJSON *names = jetstream_call(&server->js, "STREAM.NAMES", NULL, NULL, &err);
    if (!names)
        return replay_server_fail(L, &err);
    const cJSON *name;
    int count = 0;
    lua_newtable(L);
    cJSON_ArrayForEach(name, json_field(names, "streams")) {
        lua_pushstring(L, cJSON_GetStringValue(name));
        lua_rawseti(L, -2, ++count);
    }
    cJSON_Delete(names);
    return 1;
}

/* consumer(stream, name): delivered, the last sequence of the stream that it has handed out. */
static int server_consumer(lua_State *L)
{
    char operation[600];
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    snprintf(operation, sizeof operation, "CONSUMER.INFO.%s.%s", luaL_checkstring(L, 1),
             luaL_checkstring(L, 2));
    cJSON *info = jetstream_call(&server->js, operation, NULL, NULL, &err);
    if (!info)
        return replay_server_fail(L, &err);
    lua_newtable(L);
    put_number(L, "delivered",
               (double)json_unsigned(json_field(info, "delivered"), "stream_seq", 0));
    cJSON_Delete(info);
    return 1;
}

static int answer_message(lua_State *L, const char *stream, int code, struct stored_message *stored,
                          const struct err *err)
{
    /* A header that cannot be sent is not the message's end. */
    bool readable = stored->data && (code == 0 || code == ERR_INVALID);
    int results = 1;
    if (readable)
        push_message(L, stream, stored);
    else
        results = replay_server_fail(L, err);
    stored_clear(stored);
    return results;
}

/* read(stream, sequence [, next]): the message; next: a pattern, and the first from there on that
 * it takes. */
static int server_read(lua_State *L)
{
    struct stored_message stored;
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    const char *stream = luaL_checkstring(L, 1);
    uint64_t sequence = (uint64_t)luaL_checknumber(L, 2);
    int code =
        jetstream_read(&server->js, stream, sequence, luaL_optstring(L, 3, NULL), &stored, &err);
    return answer_message(L, stream, code, &stored, &err);
}

/* last(stream [, subject]) */
static int server_last(lua_State *L)
{
    struct stored_message stored;
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    const char *stream = luaL_checkstring(L, 1);
    int code = jetstream_last(&server->js, stream, luaL_optstring(L, 2, ">"), &stored, &err);
    return answer_message(L, stream, code, &stored, &err);
}

/* stream_of(subject): its name, or false. */
static int server_stream_of(lua_State *L)
{
    char stream[256];
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    int found =
        jetstream_stream_of(&server->js, luaL_checkstring(L, 1), stream, sizeof stream, &err);
    if (found < 0)
        return replay_server_fail(L, &err);
    if (found)
        lua_pushstring(L, stream);
    else
        lua_pushboolean(L, 0);
    return 1;
}

/* --- dead letters --- */

/* The message that a letter is of, as it lies in its stream; or as far as the letter has it. NULL
 * or a sentence: why it is not the original. */
static const char *find_original(struct replay_server *server, const struct letter *letter,
                                 const struct stored_message *stored, struct stored_message *out,
                                 struct headers *headers, struct err *err)
{
    struct err gone = {0};
    struct stored_message there = {0};
    int code = ERR_NOT_FOUND;
    if (letter->stream && letter->sequence)
        code = jetstream_read(&server->js, letter->stream, letter->sequence, NULL, &there, &gone);
    bool same = (code == 0 || code == ERR_INVALID) && there.data &&
                there.timestamp_ns == letter->timestamp_ns &&
                strcmp(there.subject, letter->subject) == 0;
    if (same) {
        *out = there;
        return NULL;
    }
    stored_clear(&there);
    if (letter->reference) {
        err_set(err, ERR_NOT_FOUND,
                "the letter is only a reference to stream %s, sequence %llu, and the original is "
                "gone from there",
                letter->stream, (unsigned long long)letter->sequence);
        return "gone";
    }
    if (letter_restore(stored, headers, err) != 0)
        return "unreadable";
    err->code = ERR_NONE;
    return "the original is gone from its stream: this is what the letter has of it, without "
           "headers that JetStream acted upon";
}

/* Pushes what the letter says of itself. */
static void push_letter(lua_State *L, const char *stream, const struct stored_message *stored,
                        const struct letter *letter)
{
    lua_createtable(L, 0, 8);
    put_string(L, "stream", stream);
    put_number(L, "sequence", (double)stored->sequence);
    put_string(L, "subject", stored->subject);
    put_string(L, "consumer", letter->consumer);
    put_string(L, "code", letter->code);
    put_string(L, "error", letter->error);
    put_number(L, "attempt", (double)letter->attempt);
}

/* The letter's message and the letter. */
static int push_of_letter(lua_State *L, struct replay_server *server, const char *stream,
                          const struct stored_message *stored, const struct letter *letter)
{
    struct err err = {0};
    struct headers headers = {0};
    struct stored_message original = {0};
    const char *why = find_original(server, letter, stored, &original, &headers, &err);
    if (err.code) {
        headers_clear(&headers);
        return replay_server_fail(L, &err);
    }
    if (!why) {
        push_message(L, letter->stream, &original);
    } else {
        const struct stored_message kept = {.subject = (char *)letter->subject,
                                            .sequence = letter->sequence,
                                            .timestamp_ns = letter->timestamp_ns,
                                            .headers = headers,
                                            .data = stored->data,
                                            .len = stored->len};
        push_message(L, letter->stream, &kept);
        put_string(L, "note", why);
    }
    stored_clear(&original);
    headers_clear(&headers);
    push_letter(L, stream, stored, letter);
    return 2;
}

/* letter(stream [, sequence]): what the letter is of, and what it says; the last one without a
 * sequence. */
static int server_letter(lua_State *L)
{
    struct stored_message stored = {0};
    struct letter letter = {0};
    struct err err = {0};
    struct replay_server *server = replay_server_of(L);
    const char *stream = luaL_checkstring(L, 1);
    int code = lua_isnoneornil(L, 2)
                   ? jetstream_last(&server->js, stream, ">", &stored, &err)
                   : jetstream_read(&server->js, stream, (uint64_t)luaL_checknumber(L, 2), NULL,
                                    &stored, &err);
    int results;
    if (!stored.data || (code != 0 && code != ERR_INVALID)) {
        results = replay_server_fail(L, &err);
    } else if ((code = letter_read(&stored, &letter, &err)) > 0) {
        results = push_of_letter(L, server, stream, &stored, &letter);
    } else {
        if (code == 0)
            err_set(&err, ERR_INVALID, "its sequence %llu is no dead letter",
                    (unsigned long long)stored.sequence);
        results = replay_server_fail(L, &err);
    }
    letter_clear(&letter);
    stored_clear(&stored);
    return results;
}

/* nats.c does not go on after an interruption, and the watchdog's timer interrupts whoever computes
 * (sim_watch_cpu). What is said is said as the command was told, which simulated hosts, whose log
 * is JSON, were not. Upvalue 2 is called. */
static int undisturbed(lua_State *L)
{
    sigset_t timer, before;
    const struct replay_server *server = lua_touserdata(L, lua_upvalueindex(1));
    lua_CFunction function = lua_tocfunction(L, lua_upvalueindex(2));
    enum log_format format = log_format();
    log_setup(LOG_DEBUG, server->format);
    sigemptyset(&timer);
    sigaddset(&timer, SIGPROF);
    sigaddset(&timer, SIGURG);
    pthread_sigmask(SIG_BLOCK, &timer, &before);
    int results = function(L);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    log_setup(LOG_DEBUG, format);
    return results;
}

int replay_server_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"say", server_say},
        {"note", server_note},
        {"alarm", server_alarm},
        {"open", server_open},
        {"info", server_info},
        {"read", server_read},
        {"last", server_last},
        {"stream_of", server_stream_of},
        {"letter", server_letter},
        {"publish", replay_server_publish},
        {"send", replay_server_send},
        {"request", replay_server_request},
        {"max_payload", server_max_payload},
        {"streams", server_streams},
        {"consumer", server_consumer},
        {NULL, NULL},
    };
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushcfunction(L, f->func);
        lua_pushcclosure(L, undisturbed, 2);
        lua_setfield(L, -2, f->name);
    }
    return 1;
}
