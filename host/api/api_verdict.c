/* api_verdict - what a handler says about its message: the verdicts of JetStream, and replies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/log.h"
#include "base/value.h"

/* --- Shared --- */

static int done(lua_State *L)
{
    lua_pushboolean(L, 1);
    return 1;
}

static int fail_with(lua_State *L, enum err_code code, const char *sentence)
{
    struct err err;
    err_set(&err, code, "%s", sentence);
    return api_fail(L, &err);
}

static int already_settled(lua_State *L)
{
    return fail_with(L, ERR_SETTLED, "the message has had its verdict already");
}

/* The message of a method that only JetStream's have. */
static struct message *stream_message(lua_State *L, const char *method)
{
    struct message *message = api_message(L, method);
    if (message->kind != MESSAGE_STREAM)
        api_misuse(L, "msg:%s: this message %s, so it has no verdict", method,
                   message->kind == MESSAGE_STORED ? "was read by js.get or js.messages"
                                                   : "is not from a stream");
    return message;
}

/* Options at index, the last argument, with one known key, whose value is pushed; nil for no
 * options. An __index of theirs is not asked: a script's code must not run inside of the host's. */
static void push_option(lua_State *L, int index, const char *method, const char *key)
{
    lua_settop(L, index);
    if (lua_isnil(L, index)) {
        lua_pushnil(L);
        return;
    }
    if (lua_type(L, index) != LUA_TTABLE)
        api_misuse(L, "msg:%s: the options must be a table, got %s", method,
                   api_type_name(L, index));
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), key) != 0)
            api_misuse(L, "msg:%s: unknown option \"%s\": there is \"%s\"", method,
                       lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?", key);
        lua_pop(L, 1);
    }
    lua_pushstring(L, key);
    lua_rawget(L, index);
}

static const char *reason_argument(lua_State *L, const char *method)
{
    if (lua_isnoneornil(L, 2))
        return NULL;
    if (lua_type(L, 2) != LUA_TSTRING)
        api_misuse(L, "msg:%s: the reason must be a string, got %s", method, api_type_name(L, 2));
    return lua_tostring(L, 2);
}

static int settle(lua_State *L, struct message *message, enum verdict verdict, int64_t delay_ns)
{
    struct err err;
    if (message->decided || !message->delivery)
        return already_settled(L);
    int code = verdict == VERDICT_NAK ? retries_nak(message->delivery, delay_ns, &err)
                                      : delivery_settle(message->delivery, verdict, delay_ns, &err);
    if (code != 0)
        return api_fail(L, &err);
    binding_end_span(message->run, task_trace_verdict(message->run, message->delivery, verdict),
                     NULL);
    return done(L);
}

/* --- Verdicts --- */

static void on_confirmed(void *owner, struct packet *reply, enum err_code code)
{
    struct op *op = owner;
    op->result.code = code;
    if (reply) /* that there is one says it all */
        op_complete_by_reply(op);
    else
        op_complete(op);
}

static int push_confirmation(struct op *op, lua_State *L)
{
    enum err_code code = op->result.code;
    if (code == ERR_NONE)
        return done(L);
    return fail_with(L, code,
                     code == ERR_TIMEOUT ? "the server did not confirm the ack in time"
                                         : "the server did not confirm the ack");
}

static int ack_and_wait(lua_State *L, struct task *task, struct message *message)
{
    if (message->decided || !message->delivery)
        return already_settled(L);
    api_may_wait(L, "msg:ack");
    struct op *op = op_new(task, push_confirmation, binding_cancel_request);
    if (!op)
        return fail_with(L, ERR_MEMORY, "no memory to wait for the ack");
    op->span = task_trace_verdict(message->run, message->delivery, VERDICT_ACK);
    struct err err;
    if (binding_ack(op, message->delivery, on_confirmed, &err) != 0)
        return api_not_started(L, op, &err);
    return task_wait(L, op);
}

/* msg:ack([{sync = true}]) */
static int method_ack(lua_State *L)
{
    struct message *message = stream_message(L, "ack");
    push_option(L, 2, "ack", "sync");
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        return api_misuse(L, "msg:ack: sync must be true or false, got %s", api_type_name(L, -1));
    bool sync = lua_toboolean(L, -1);
    struct task *task = api_task(L, "msg:ack");
    if (sync)
        return ack_and_wait(L, task, message);
    return settle(L, message, VERDICT_ACK, 0);
}

/* To the dead letter now, while the handler goes on. */
static int bury(lua_State *L, struct message *message, const struct err *reason)
{
    char file[256];
    int line = 0;
    bool known = where_find(L, file, sizeof file, &line);
    message->decided = true;
    task_dead_letter(message->run, message->delivery, reason, known ? file : NULL, line);
    return done(L);
}

/* There is no delivery after the last one: to the dead letter instead. */
static int nak_the_last(lua_State *L, struct message *message)
{
    struct err err;
    err_set(&err, ERR_HANDLER, "nak'd by the handler at its last attempt");
    return bury(L, message, &err);
}

/* msg:nak([delay]): without a delay, the backoff of its attempt, so that nothing spins. As any
 * verdict, by the rules of the message's own handler, whichever of the script's gives it. */
static int method_nak(lua_State *L)
{
    struct message *message = stream_message(L, "nak");
    int64_t delay_ns = api_duration(L, 2, "msg:nak", "delay", 0);
    api_task(L, "msg:nak");
    struct task *run = message->run;
    if (message->decided || !run || delivery_settled(message->delivery))
        return already_settled(L);
    if (message->delivery->attempt >= (uint64_t)run->registration->attempts &&
        registration_gives_up(run->registration))
        return nak_the_last(L, message);
    if (lua_isnoneornil(L, 2))
        delay_ns = registration_backoff_ns(run->registration, message->delivery->attempt);
    if (run->registration->order == ORDER_NONE)
        return settle(L, message, VERDICT_NAK, delay_ns);
    /* In order: its key waits for it here, so the verdict is carried out when the handler ends. */
    message->decided = run->retry_asked = true;
    run->retry_delay_ns = delay_ns;
    return done(L);
}

/* In a batch: this message alone, now. */
static int reject_one(lua_State *L, struct message *message, const char *reason)
{
    struct err err;
    if (message->decided || delivery_settled(message->delivery))
        return already_settled(L);
    err_set(&err, ERR_BAD_PAYLOAD, "%s", reason ? reason : "rejected by the handler");
    return bury(L, message, &err);
}

/* msg:term([reason]) */
static int method_term(lua_State *L)
{
    struct message *message = stream_message(L, "term");
    const char *reason = reason_argument(L, "term");
    api_task(L, "msg:term");
    int count = settle(L, message, VERDICT_TERM, 0);
    if (count == 1) {
        char file[256];
        struct log_context context = {0};
        api_log_context(L, &context, file, sizeof file);
        api_log_message(&context, message->run, message->delivery);
        context.verdict = "term";
        log_event(LOG_INFO, &context, "terminated by the handler%s%s", reason ? ": " : "",
                  reason ? reason : "");
    }
    return count;
}

/* msg:reject([reason]): the run counts as failed with bad_payload, whatever comes after; what that
 * means (the dead letter, an error 400) is the engine's. */
static int method_reject(lua_State *L)
{
    struct message *message = api_message(L, "reject");
    const char *reason = reason_argument(L, "reject");
    if (message->kind == MESSAGE_REPLY || message->kind == MESSAGE_STORED)
        return api_misuse(L, "msg:reject: this message %s, so it has no verdict",
                          message->kind == MESSAGE_REPLY ? "is a reply" : "was read by js.get");
    api_task(L, "msg:reject");
    struct task *run = message->run;
    if (!run)
        return already_settled(L);
    if (run->batch)
        return reject_one(L, message, reason);
    if (message->decided || run->responded || delivery_settled(message->delivery))
        return already_settled(L);
    struct failure failure;
    char file[256];
    failure_init(&failure);
    if (where_find(L, file, sizeof file, &failure.line))
        failure.file = strdup(file);
    err_set(&failure.err, ERR_BAD_PAYLOAD, "%s", reason ? reason : "rejected by the handler");
    task_fail_anew(run, &failure);
    message->decided = true;
    return done(L);
}

/* msg:progress() */
static int method_progress(lua_State *L)
{
    struct message *message = stream_message(L, "progress");
    api_task(L, "msg:progress");
    struct err err;
    if (message->decided || !message->delivery)
        return already_settled(L);
    if (delivery_progress(message->delivery, &err) != 0)
        return api_fail(L, &err);
    return done(L);
}

/* --- Replies --- */

/* Whoever publishes chooses where the answer goes. A message to what begins with $, or to
 * JetStream's API under another prefix, is an ack or a command of ours to the server: deleting a
 * stream takes no more than an empty one. */
static bool is_servers_own(const struct task *task, const char *to)
{
    return binding_is_servers_own(task, to);
}

/* A request to the server, which answers it. Whoever listens to all subjects hears the host's own,
 * too: an answer that came first would be taken for the server's. */
static bool is_for_server(const struct task *task, const char *subject)
{
    static const char api[] = "$JS.", system[] = "$SYS.";
    if (subject[0] != '$')
        return is_servers_own(task, subject);
    return strncmp(subject, api, sizeof api - 1) == 0 ||
           strncmp(subject, system, sizeof system - 1) == 0;
}

/* Once for each subscription: such a request may come a million times. to: the server's own; NULL:
 * the request is for the server. */
static void log_kept(const struct task *root, const char *subject, const char *to)
{
    if (!binding_may_log_kept(root))
        return;
    struct log_context context = {.script = binding_script_name(root->instance),
                                  .handler = root->registration->handler,
                                  .file = root->registration->file,
                                  .line = root->registration->line,
                                  .subject = subject};
    if (!to) {
        log_event(
            LOG_WARN, &context,
            "a request to \"%.200s\" is the server's to answer: what the handler returns is not "
            "sent (logged once). If the handler only looks on, state reply = false",
            subject);
        return;
    }
    log_event(LOG_WARN, &context,
              "a message asks for its reply at \"%.200s\", a subject of the server's own: nothing "
              "is sent there (logged once). If the handler only looks on, state reply = false",
              to);
}

/* May what ends the run be sent to its requester? */
static bool may_answer(const struct task *root)
{
    const struct delivery *delivery = root->delivery;
    if (!delivery || !delivery->reply_to || root->responded || root->registration->looks_on)
        return false;
    bool for_server = is_for_server(root, delivery->packet.subject);
    if (!for_server && !is_servers_own(root, delivery->reply_to))
        return true;
    log_kept(root, delivery->packet.subject, for_server ? NULL : delivery->reply_to);
    return false;
}

/* A reply carries the request's correlation_id, if that had one that can be sent. */
static void add_correlation(struct headers *headers, const struct header_block *request)
{
    struct span id = header_block_find(request, "correlation_id");
    if (id.at && !headers_get(headers, "correlation_id").at)
        headers_add(headers, "correlation_id", id.at, id.len, NULL);
}

/* Sends a reply. Clears headers. Without L it is what the run ends with: there is one for each
 * request, and room is kept for it when the script has sent too much. */
static int send_reply(lua_State *L, struct task *task, const struct header_block *request,
                      const char *to, const struct payload *payload, struct headers *headers,
                      struct err *err)
{
    int code;
    add_correlation(headers, request);
    binding_carry_trace(task, payload->len, headers);
    struct link_frame frame = {
        .subject = to, .data = payload->data, .len = payload->len, .headers = headers};
    if (L) {
        code = api_send(L, task, &frame, err);
    } else {
        frame.owed = true;
        code = binding_send(task, &frame, err);
    }
    headers_clear(headers);
    return code;
}

/* msg:respond(data [, {headers}]). The message stays where it is on the stack: nobody else may have
 * it, and the JSON of the data may set off a collection. */
static int method_respond(lua_State *L)
{
    struct message *message = api_message(L, "respond");
    const char *to = message->reply;
    if (!to)
        return api_misuse(L, "msg:respond: there is no reply subject%s",
                          message->kind == MESSAGE_STREAM ? " (the message is from a stream)" : "");
    push_option(L, 3, "respond", "headers");
    struct payload payload;
    api_payload(L, 2, "msg:respond", &payload);
    struct task *task = api_task(L, "msg:respond");
    if (message->run && message->run->registration->looks_on)
        return api_misuse(L, "msg:respond: this handler was registered with reply = false");
    if (is_servers_own(task, to)) {
        log_kept(task->root, message->subject, to);
        return fail_with(L, ERR_PERMISSION,
                         "the reply subject is the server's own, where a message is a command or "
                         "an ack: nothing is replied there");
    }
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    struct err err;
    if (api_headers(L, 4, payload.content_type, &headers, &err) != 0) {
        headers_clear(&headers);
        return api_misuse(L, "msg:respond: %s", err.message);
    }
    if (send_reply(L, task, &message->headers, to, &payload, &headers, &err) != 0)
        return api_fail(L, &err);
    if (message->run)
        message->run->responded = true;
    return done(L);
}

/* Protected: the JSON text of what a handler returned. */
static int encode_reply(lua_State *L)
{
    api_json_encode(L, 1, "the handler's reply");
    return 1;
}

/* Pushes the JSON text of the table at index of L onto the main state: there is no handler any
 * more that could catch an error. */
static int push_json(struct vm *vm, lua_State *L, int index, struct err *err)
{
    struct failure failure = {0};
    lua_pushvalue(L, index);
    lua_pushcfunction(vm->L, encode_reply);
    lua_xmove(L, vm->L, 1);
    if (vm_call(vm, 1, 1, &failure) == 0)
        return 0;
    *err = failure.err;
    failure_clear(&failure);
    return err->code;
}

int api_reply(struct task *task, lua_State *L, int nresults, struct err *err)
{
    struct delivery *delivery = task->delivery;
    int index = lua_gettop(L) - nresults + 1;
    int type = nresults > 0 ? lua_type(L, index) : LUA_TNIL;
    if (type == LUA_TNIL || task->failure || !may_answer(task))
        return 0;
    struct vm *vm = task->instance->vm;
    struct payload payload = {.data = ""};
    if (type == LUA_TSTRING) {
        payload.data = lua_tolstring(L, index, &payload.len);
    } else if (type == LUA_TTABLE) {
        if (push_json(vm, L, index, err) != 0)
            return err->code;
        payload.data = lua_tolstring(vm->L, -1, &payload.len);
        payload.content_type = "application/json";
    } else {
        return err_set(err, ERR_HANDLER, "a handler's reply is a string, a table or nil, not a %s",
                       api_type_name(L, index));
    }
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    int code = 0;
    if (payload.content_type)
        code = headers_add(&headers, "content-type", payload.content_type,
                           strlen(payload.content_type), err);
    if (code == 0)
        code = send_reply(NULL, task, &delivery->packet.headers, delivery->reply_to, &payload,
                          &headers, err);
    headers_clear(&headers);
    if (type == LUA_TTABLE)
        lua_pop(vm->L, 1);
    task->responded = code == 0;
    task->unsent = code == ERR_FULL;
    return code;
}

void api_reply_error(struct task *task, int status, const struct err *err)
{
    struct delivery *delivery = task->delivery;
    if (!may_answer(task))
        return;
    char text[sizeof err->message], code[16];
    size_t len = strlen(err->message);
    for (size_t i = 0; i <= len; i++) {
        unsigned char c = (unsigned char)err->message[i];
        text[i] = (char)(c && c < 0x20 ? ' ' : c);
    }
    int digits = snprintf(code, sizeof code, "%d", status);
    char room[HEADERS_ROOM];
    struct headers headers = headers_in(room, sizeof room);
    struct payload payload = {.data = ""};
    struct err ignored;
    if (headers_add(&headers, "Nats-Service-Error", text, len, &ignored) == 0 &&
        headers_add(&headers, "Nats-Service-Error-Code", code, (size_t)digits, &ignored) == 0 &&
        send_reply(NULL, task, &delivery->packet.headers, delivery->reply_to, &payload, &headers,
                   &ignored) == 0)
        task->responded = true;
    headers_clear(&headers);
}

void api_verdict_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"ack", method_ack},
        {"nak", method_nak},
        {"term", method_term},
        {"reject", method_reject},
        {"progress", method_progress},
        {"respond", method_respond},
        {NULL, NULL},
    };
    for (const luaL_Reg *m = methods; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
}
