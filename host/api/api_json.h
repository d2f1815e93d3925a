/* api_json - what the two halves of JSON, writing and reading, share. */
#ifndef MOONBUS_API_API_JSON_H
#define MOONBUS_API_API_JSON_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "vm/plain.h"

/* Marks a table as an array, so that an empty one stays one. */
#define JSON_ARRAY_METATABLE PLAIN_ARRAY_METATABLE

bool json_is_array(lua_State *L, int index);

/* Deeper is neither written nor read. */
#define JSON_DEPTH_MAX 128

/* How many bytes from here on stand for themselves in a JSON string: ASCII without control
 * characters, quotes and backslashes. */
size_t json_plain_length(const unsigned char *bytes, size_t left);

#endif
