/* spec - the table that a script registers by, as moonbus.options has checked it. Read raw, so that
 * no script's code runs. What is copied is the caller's; all of it raises when there is no memory.
 */
#ifndef MOONBUS_ENGINE_KINDS_SPEC_H
#define MOONBUS_ENGINE_KINDS_SPEC_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/version/registration.h"

struct cJSON;

/* Pushes a field of the table at `table`; returns its type. The caller pops it. */
int spec_push(lua_State *L, int table, const char *name);

char *spec_copy(lua_State *L, const char *text);
/* A field; one that is not there: NULL, `otherwise`, 0, false. */
char *spec_text(lua_State *L, int table, const char *name);
double spec_number(lua_State *L, int table, const char *name, double otherwise);
int64_t spec_duration_ns(lua_State *L, int table, const char *name); /* of seconds */
bool spec_flag(lua_State *L, int table, const char *name);
/* The list at "filters" into filters and filter_count; pushes them as the greeting shows them. */
void spec_filters(lua_State *L, int table, struct consumer_spec *consumer);
/* The option `update`. */
enum update spec_update(lua_State *L, int table);

/* The table at index as NATS' own JSON, into *out, which its registration owns from the start.
 * NULL, or a sentence: what is wrong with it. */
const char *spec_json(lua_State *L, int index, struct cJSON **out);

/* Sets how people call a registration: its handler, by format, and what it is. */
void spec_name(lua_State *L, struct registration *registration, const char *what,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
