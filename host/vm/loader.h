/* loader - a script's environment: its own globals, its own require, nothing that could harm the
 * process. The C side of lua/moonbus/loader.lua.
 *
 * A script sees the standard library. The parts that could harm the process (io, ffi, most of debug
 * and package, os.execute/exit/remove/rename/setlocale/tmpname, bytecode) raise when they are
 * called (lua/moonbus/walls.lua). With trust, all of it works. A write to an undeclared global is
 * logged once, with file and line. On the thread that has the vm. */
#ifndef MOONBUS_VM_LOADER_H
#define MOONBUS_VM_LOADER_H

#include <stdint.h>

#include "vm/texts.h"
#include "vm/vm.h"

/* The names of globals that have been warned of. All instances of a generation share them, so that
 * each name is logged once, and not once per instance. Their number is bounded, because a script
 * may make up names without end, and its memory limit does not cover this. Any thread. */
#define LOADER_NAMES_MOST 100
struct loader_names;
struct loader_names *loader_names_new(void); /* NULL when out of memory */
void loader_names_free(struct loader_names *names);

/* Advice for a top level that takes too long. */
#define LOADER_ADVICE                                                                              \
    "the top level only registers handlers; what takes long belongs into bus.on(\"start\", ...)"

struct loader_options {
    const char *const *lib; /* folders where require looks after the script's own */
    int lib_count;
    bool trust;
    struct texts *texts;         /* not owned, outlives the vm; NULL: files are read each time */
    struct loader_names *warned; /* not owned, outlives the vm; NULL: each vm warns by itself */
    int64_t deadline_ns;         /* a top level that runs longer fails with ERR_CPU; 0: none */
};

/* Loads the file and runs its top level in a fresh environment. name: how messages call it
 * ("orders.lua"). 0, or a negative code with failure (syntax error: file and line; unreadable file;
 * an error at the top level; a missing module with the places where it was looked for). */
int loader_run(struct vm *vm, const char *path, const char *name,
               const struct loader_options *options, struct failure *failure);

/* Calls as vm_call, with the JIT off. After limit_ns it fails with ERR_CPU, "still loading after
 * ...", and the advice (static). 0: no limit. That does not interrupt a call into C; aside
 * (vm/aside.h) ends that, too, and then vm->broken is set. */
int loader_call_within(struct vm *vm, int64_t limit_ns, const char *advice, int nargs, int nresults,
                       struct failure *failure);

#endif
