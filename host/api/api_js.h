/* api_js - what the files of js.publish share; nobody else includes it.
 *
 *   api_js.c          the call: options, headers, ids
 *   api_js_receipt.c  what becomes of it: a receipt, an error */
#ifndef MOONBUS_API_API_JS_H
#define MOONBUS_API_API_JS_H

#include "api/api.h"

/* Behind its op. */
struct publishing {
    struct publish publish; /* the outbox's; the first, as binding_publish wants it */
    char stream[64]; /* where it is stored; "": that is longer, or more is to be said of it */
    char bytes[];    /* the publish's */
};

/* The outbox's threads: err is borrowed, the op is ours. */
void api_js_on_result(void *owner, const struct receipt *receipt, const struct err *err);

/* Sequence, stream, is it a duplicate; of a counter its sum, else nil; of a trial: was it sent more
 * than once. The Lua side makes a table of them, at a quarter of what it costs from here. Or nil
 * and an error. op->work: the input, when a duplicate of its publish would be odd; or NULL. */
int api_js_push_receipt(struct op *op, lua_State *L);

/* What keeps the input from being acknowledged. wrong_sequence is an answer, as is no_ack: no other
 * run would know more. */
void api_js_note_failure(struct task *task, const struct err *err);

#endif
