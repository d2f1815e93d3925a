/* A context of the nats command line: any bytes as its file (app/context.h). */
#include "app/context.h"

#include <string.h>

#include "fuzz.h"

static void check_values(const struct context *context)
{
    MUST(context->count >= 0 && context->count <= CONTEXT_VALUES);
    for (int i = 0; i < context->count; i++) {
        const struct context_value *value = &context->values[i];
        MUST(value->key && *value->key && value->field && *value->field && value->text);
        for (int j = 0; j < i; j++)
            MUST(strcmp(value->key, context->values[j].key) != 0);
    }
}

void fuzz_context(const uint8_t *data, size_t size)
{
    struct context context;
    struct err err = {0};
    int code = context_parse((const char *)data, size, &context, &err);
    check_values(&context);
    if (code)
        fuzz_check_err(&err, code);
    else
        MUST(context.count > 0); /* there is a server */
    context_clear(&context);
    MUST(context.count == 0);
}
