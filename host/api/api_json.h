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

/* How many bytes the character at bytes takes; 0 when it is not UTF-8. left: at least 1. */
int json_utf8_length(const unsigned char *bytes, size_t left);

/* Prepares the reader. */
void api_json_decode_open(lua_State *L);

#endif
