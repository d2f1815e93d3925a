/* whole_json - an object of JSON that has all of its fields, or is none: what lacks one for want of
 * memory is not printed any more, so that nobody is told half of it.
 *
 * Any thread that has the object. */
#ifndef MOONBUS_ENGINE_KINDS_WHOLE_JSON_H
#define MOONBUS_ENGINE_KINDS_WHOLE_JSON_H

#include <stdint.h>

struct cJSON;

/* object: as cJSON makes it, NULL too. A list may be spoiled, too. */
void whole_json_spoil(struct cJSON *object);
/* Takes the item, which may be NULL: then there was no memory for it. */
void whole_json_put(struct cJSON *object, const char *name, struct cJSON *item);
void whole_json_put_text(struct cJSON *object, const char *name, const char *text);
/* In digits: no exponent, whatever the number. */
void whole_json_put_number(struct cJSON *object, const char *name, uint64_t number);

#endif
