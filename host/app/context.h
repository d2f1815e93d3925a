/* context - the contexts of the nats command line (ADR-21): a file each, that says how to reach a
 * server and as whom. One of them is the selected one.
 *
 *   ${XDG_CONFIG_HOME:-~/.config}/nats/context.txt           the name of the selected one
 *   ${XDG_CONFIG_HOME:-~/.config}/nats/context/NAME.json     {"url": "...", "creds": "..."}
 *
 * Its fields become settings of ours, as text, as if they were in the environment: moonbus.config
 * judges them. Any thread; reads the files, and no others. */
#ifndef MOONBUS_APP_CONTEXT_H
#define MOONBUS_APP_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { CONTEXT_VALUES = 16 }; /* as many as there are fields with a setting */

/* A setting: a leaf of the config, and its text. */
struct context_value {
    const char *key;   /* static: "auth.creds" */
    const char *field; /* static: the context's name for it, "creds" */
    char *text;        /* owned */
};

/* All of it is owned: context_clear. */
struct context {
    char *name; /* for people */
    struct context_value values[CONTEXT_VALUES];
    int count;
    char *unknown; /* fields that are none of a context's, by comma; or NULL */
};

/* The selected one's name. False: there is none. */
bool context_selected(char *name, size_t size);

/* Reads one, by its name, or by its path where there is a '/' in it. ERR_INVALID names the context
 * and what is wrong: there is none of that name, it is no JSON, a field is no text, or says what
 * cannot be done here (nsc, socks_proxy). context_clear in any case. */
int context_load(const char *name, struct context *out, struct err *err);

/* What of it is pure: the text of a file. Of several ways to authenticate there is the one that the
 * nats command line takes. Paths have ~ and the environment's variables in them expanded. */
int context_parse(const char *text, size_t len, struct context *out, struct err *err);

void context_clear(struct context *context);

#endif
