/* json - the fields of a JSON object that somebody else wrote (a server's answer, a report): each
 * may be missing, or be something else than it should.
 *
 *   uint64_t first = json_unsigned(json_field(info, "state"), "first_seq", 0);
 *
 * Names are compared by case. An object may be NULL, or no object: then it has no fields, so that
 * questions can be nested. What is returned belongs to the object, and lives as long.
 *
 * Pure functions, any thread. This header does not bring cJSON along; who builds JSON includes it.
 */
#ifndef MOONBUS_BASE_JSON_H
#define MOONBUS_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

struct cJSON;

/* The field itself, or NULL. */
const struct cJSON *json_field(const struct cJSON *object, const char *name);

/* A text, which ends with a NUL; NULL when it is missing or no text. */
const char *json_text(const struct cJSON *object, const char *name);

/* The same, but `otherwise` in place of NULL. */
const char *json_text_or(const struct cJSON *object, const char *name, const char *otherwise);

/* The first text of a list; NULL when it is missing, no list, or begins with something else. */
const char *json_first_text(const struct cJSON *object, const char *name);

/* A number; `otherwise` when it is missing or none. */
double json_number(const struct cJSON *object, const char *name, double otherwise);

/* The same without its fraction; `otherwise` also for one that does not fit. */
int json_int(const struct cJSON *object, const char *name, int otherwise);
int64_t json_integer(const struct cJSON *object, const char *name, int64_t otherwise);
uint64_t json_unsigned(const struct cJSON *object, const char *name, uint64_t otherwise);

/* It is there, and it is true. */
bool json_true(const struct cJSON *object, const char *name);

#endif
