/* Foreign bytes on their way into the log and into JSON, as base/text.h escapes them.
 *
 *   t TEXT   any bytes
 *   r JSON   JSON that is there already */
#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "fuzz.h"

/* Nothing that ends a line, steers a terminal or turns the order of what is read. */
static void check_harmless(const struct text *text, bool tabs)
{
    const unsigned char *bytes = (const unsigned char *)text->bytes;
    for (size_t i = 0; i < text->len;) {
        size_t len = utf8_length(text->bytes + i, text->len - i);
        MUST(len > 0 && (bytes[i] >= 0x20 || (tabs && bytes[i] == '\t')) && bytes[i] != 0x7f);
        MUST(!(bytes[i] == 0xc2 && bytes[i + 1] < 0xa0));
        if (bytes[i] == 0xe2 && bytes[i + 1] == 0x80)
            MUST(bytes[i + 2] < 0xa8 || bytes[i + 2] > 0xae);
        if (bytes[i] == 0xe2 && bytes[i + 1] == 0x81)
            MUST(bytes[i + 2] < 0xa6 || bytes[i + 2] > 0xa9);
        i += len;
    }
}

static void any_bytes(const char *bytes, size_t len)
{
    struct text text;
    text_init(&text);
    text_escape(&text, bytes, len);
    MUST(!text.failed);
    check_harmless(&text, true);
    text_clear(&text);

    text_init(&text);
    text_json_string(&text, bytes, len);
    MUST(!text.failed);
    check_harmless(&text, false);
    cJSON *item = cJSON_ParseWithLength(text.bytes, text.len);
    MUST(cJSON_IsString(item));
    if (utf8_is_valid(bytes, len) && strlen(bytes) == len)
        MUST(strcmp(cJSON_GetStringValue(item), bytes) == 0);
    cJSON_Delete(item);
    text_clear(&text);
}

static void json(const char *bytes, size_t len)
{
    cJSON *item = cJSON_ParseWithLength(bytes, len);
    char *compact = cJSON_PrintUnformatted(item);
    if (compact) {
        struct text text;
        text_init(&text);
        text_json_raw(&text, compact, strlen(compact));
        check_harmless(&text, false);
        cJSON *again = cJSON_ParseWithLength(text.bytes, text.len);
        MUST(again != NULL);
        cJSON_Delete(again);
        text_clear(&text);
    }
    cJSON_free(compact);
    cJSON_Delete(item);
}

void fuzz_text(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    size_t len;
    char *bytes = input_rest(&input, &len);
    if (kind == 't')
        any_bytes(bytes, len);
    else if (kind == 'r')
        json(bytes, len);
    free(bytes);
}
