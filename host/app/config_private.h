/* config_private - what the files of config share; nobody else includes it.
 *
 *   config_read.c    the file runs, and is judged, in a Lua state of its own
 *   config.c         from what it gave to a struct config */
#ifndef MOONBUS_APP_CONFIG_PRIVATE_H
#define MOONBUS_APP_CONFIG_PRIVATE_H

#include "app/config.h"
#include "vm/vm.h"

/* Blocks, but returns soon after the deadline, whatever the file does: a thread that nothing
 * interrupts keeps its state, and nothing else. Returns a state with the result on its stack, the
 * caller's to free; NULL with err. *format: of the log, as far as it was stated, when it is NULL.
 */
struct vm *config_read(const struct config_sources *sources, const char *file,
                       enum log_format *format, struct err *err);

#endif
