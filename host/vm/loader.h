/* loader - a script's environment: its own globals, its own require, nothing that could harm the
 * process. The C side of lua/moonbus/loader.lua.
 *
 * A script sees the standard library without io, debug (but traceback), ffi, package, newproxy,
 * os.execute/exit/remove/rename/setlocale/tmpname, bytecode; with trust, all of it. A write to an
 * undeclared global is warned of once, with file and line. Thread: whoever has the vm. */
#ifndef MOONBUS_VM_LOADER_H
#define MOONBUS_VM_LOADER_H

#include <stdint.h>

#include "vm/sources.h"
#include "vm/vm.h"

/* The names of globals that have been warned of; shared by all instances of one generation, so that
 * each name is told once, and not once for each instance. Any thread. */
struct loader_names;
struct loader_names *loader_names_new(void); /* NULL when out of memory */
void loader_names_free(struct loader_names *names);

/* What the message says of a top level that takes too long. */
#define LOADER_ADVICE                                                                              \
    "the top level only registers handlers; what takes long belongs into bus.on(\"start\", ...)"

struct loader_options {
    const char *const *lib; /* folders where require looks after the script's own */
    int lib_count;
    bool trust;
    struct sources *sources;     /* not owned, outlives the vm; NULL: files are read each time */
    struct loader_names *warned; /* not owned, outlives the vm; NULL: each vm tells by itself */
    int64_t deadline_ns;         /* a top level that runs longer fails with ERR_CPU; 0: none */
};

/* Loads the file and runs its top level in a fresh environment. name: how messages call it
 * ("orders.lua"). 0, or a negative code with failure (syntax error: file and line; unreadable file;
 * an error at the top level; a missing module with the places where it was looked for). */
int loader_run(struct vm *vm, const char *path, const char *name,
               const struct loader_options *options, struct failure *failure);

/* Calls as vm_call, with the JIT off; what takes longer than limit_ns fails with ERR_CPU,
 * "still loading after ...", and the advice (static). 0: no limit. A call in C sees nothing of
 * that: run aside (vm/aside.h) it ends all the same, and vm->broken is set then. */
int loader_call_within(struct vm *vm, int64_t limit_ns, const char *advice, int nargs, int nresults,
                       struct failure *failure);

#endif
