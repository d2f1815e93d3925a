/* config_private - what the files of config share; nobody else includes it.
 *
 *   config_read.c    the file runs, and is judged, in a Lua state of its own
 *   config.c         from what it gave to a struct config */
#ifndef MOONBUS_APP_CONFIG_PRIVATE_H
#define MOONBUS_APP_CONFIG_PRIVATE_H

#include "app/config.h"
#include "vm/vm.h"

/* Blocks. A state with the result on its stack, which the caller frees; NULL with err. However the
 * file is written, it comes back soon after the deadline: a thread that nothing interrupts keeps
 * its state, and nothing else. */
struct vm *config_read(const struct config_sources *sources, const char *file, struct err *err);

#endif
