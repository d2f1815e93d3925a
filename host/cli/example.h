/* example - a payload that a handler's schema takes, found by lua/moonbus/example.lua in a Lua
 * state of its own. Any thread. */
#ifndef MOONBUS_CLI_EXAMPLE_H
#define MOONBUS_CLI_EXAMPLE_H

#include <stdbool.h>

struct text;

/* Adds JSON that fits, as one word for a shell. False, and nothing is added: none was found. */
bool example_put(struct text *out, const char *schema);

#endif
