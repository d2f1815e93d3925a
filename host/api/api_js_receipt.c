/* What becomes of a publish: kept on the outbox's threads, told to the script on its worker. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_js.h"
#include "base/log.h"

/* What the log says of a duplicate, or a counter's sum, each on a line of its own behind the
 * stream.
 */
static char *tell_more(const struct receipt *receipt)
{
    char *text = NULL;
    int written = -1;
    if (receipt->duplicate)
        written = asprintf(&text, "%s\n%s\n%.*s", receipt->stream, receipt->subject,
                           (int)receipt->id.len, receipt->id.at);
    else if (receipt->value[0])
        written = asprintf(&text, "%s\n%s", receipt->stream, receipt->value);
    return written < 0 ? strdup(receipt->stream) : text;
}

void api_js_on_result(void *owner, const struct receipt *receipt, const struct err *err)
{
    struct op *op = owner;
    struct publishing *publishing = op_more(op);
    op->result.code = receipt ? ERR_NONE : err->code;
    publishing->stream[0] = '\0';
    if (!receipt) {
        op->result.text = strdup(err->message);
    } else {
        size_t size = strlen(receipt->stream) + 1;
        if (receipt->duplicate || receipt->value[0] || size > sizeof publishing->stream)
            op->result.text = tell_more(receipt);
        else
            memcpy(publishing->stream, receipt->stream, size);
        binding_name_span(op, receipt->id);
        op->result.number = receipt->sequence;
        op->result.retried = receipt->retried;
        op->result.duplicate = receipt->duplicate;
    }
    if (receipt)
        op_complete_by_reply(op);
    else
        op_complete(op);
}

void api_js_note_failure(struct task *task, const struct err *err)
{
    if (err->code != ERR_WRONG_SEQUENCE && err->code != ERR_NO_ACK)
        task_publish_failed(task, err);
}

/* The first run of an input's first delivery, and its publish has been stored before. */
static void warn_of_duplicate(const struct task *root, const struct delivery *input, lua_State *L,
                              const char *stream, const char *subject, const char *id)
{
    char file[256];
    struct log_context context = {.script = binding_script_name(root->instance)};
    api_log_message(&context, root, input);
    if (where_find(L, file, sizeof file, &context.line))
        context.file = file;
    log_event(LOG_WARN, &context,
              "js.publish \"%s\": the stream %s has a message with the id \"%s\" already, though "
              "this is the input's first run here: either another publish has the same id, or the "
              "input was handled before (its durable was made anew, its acknowledgement was lost)",
              subject, stream, id);
}

/* op->work: what it comes from, when a duplicate of that would be odd; the run's, or NULL. */
static void judge_duplicate(struct op *op, lua_State *L)
{
    char *subject = strchr(op->result.text, '\n'), *id = subject ? strchr(subject + 1, '\n') : NULL;
    if (!id)
        return;
    *subject++ = '\0';
    *id++ = '\0';
    if (op->work)
        warn_of_duplicate(op->task->root, op->work, L, op->result.text, subject, id);
}

/* Nearly always it is that of the last publish: a string of its own for each would be the
 * collector's. */
static void push_stream(lua_State *L, const char *name, size_t len)
{
    struct instance *instance = instance_of(L);
    char *last = instance->sent.name;
    if (len && len < sizeof instance->sent.name && memcmp(last, name, len) == 0 &&
        last[len] == '\0') {
        lua_rawgeti(L, LUA_REGISTRYINDEX, instance->sent.name_ref);
        return;
    }
    lua_pushlstring(L, name, len);
    if (!len || len >= sizeof instance->sent.name)
        return;
    lua_pushvalue(L, -1);
    api_keep(L, &instance->sent.name_ref);
    memcpy(last, name, len);
    last[len] = '\0';
}

int api_js_push_receipt(struct op *op, lua_State *L)
{
    if (op->result.duplicate && op->result.text)
        judge_duplicate(op, L);
    const struct publishing *publishing = op_more(op);
    const char *text = op->result.text ? op->result.text : publishing->stream;
    if (op->result.code != ERR_NONE) {
        struct err err;
        err_set(&err, op->result.code, "%s", text);
        if (!op->result.trial)
            api_js_note_failure(op->task, &err);
        binding_fail_span(op, &err);
        return api_fail(L, &err);
    }
    size_t name = strcspn(text, "\n");
    lua_pushnumber(L, (double)op->result.number);
    push_stream(L, text, name);
    lua_pushboolean(L, op->result.duplicate);
    if (!text[name] && !op->result.trial)
        return 3;
    lua_pushstring(L, text[name] ? text + name + 1 : NULL);
    if (!op->result.trial)
        return 4;
    lua_pushboolean(L, op->result.retried);
    return 5;
}
