/* guard - stops Lua that runs too long, on the thread on which it runs.
 *
 *   watchdog ── guard_ask(number, GUARD_RAISE) ─▶ SIGURG ─▶ handler: sets a hook ─▶ raises
 *            ── guard_ask(number, GUARD_ESCAPE) ▶ SIGURG ─▶ handler: jumps back to guard_resume
 *
 * Each thread that runs scripts has one guard. `number` counts entries into Lua and exits: it is
 * odd while Lua runs, and a signal acts only on the very run that it was meant for.
 *
 * The hook fires at every instruction until the run has ended, so that no pcall swallows the error.
 * Compiled code that neither allocates nor calls never looks at hooks. It is left by a jump out of
 * the signal handler, if the program counter is in compiled code or in LuaJIT, and no function of
 * the host is on the stack: then nothing is held but what the state itself holds. The state is
 * broken afterwards, and must be given to vm_discard. That is formally undefined, and tried on
 * x86-64 and aarch64; elsewhere, and under the sanitizers that watch the stack, there is none. */
#ifndef MOONBUS_VM_GUARD_H
#define MOONBUS_VM_GUARD_H

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "vm/vm.h"

enum guard_stage { GUARD_RAISE = 1, GUARD_ESCAPE = 2 };

/* What guard_resume returns beside lua_resume's values. */
#define GUARD_ESCAPED (-1)

/* A hook works within microseconds, unless LuaJIT itself is busy (a collection, a long copy): when
 * to try the jump, and when to give the thread up. */
#define GUARD_ESCAPE_AFTER_NS ((uint64_t)200 * 1000000)
#define GUARD_LOST_AFTER_NS (GUARD_ESCAPE_AFTER_NS + (uint64_t)1000 * 1000000)

#define GUARD_RANGES 192

/* Code of the process that is no compiled Lua. */
struct guard_range {
    uintptr_t begin, end;
    bool luajit;
};

struct guard {
    atomic_uint_least64_t number;  /* odd: Lua runs */
    atomic_int_least64_t limit_ns; /* of the run; 0: none */
    atomic_uint_least64_t due_ns;  /* when its time is over, as guard_set_due said; 0: never */

    /* The watchdog's, told by the signal. */
    atomic_uint_least64_t target; /* the run that is to be stopped */
    atomic_int stage;
    struct guard_range ranges[GUARD_RANGES];
    int range_count; /* 0: unknown, no escape */

    /* The thread's, and its signal handler's. */
    struct vm *vm; /* not owned; of the run */
    jmp_buf resume;
    volatile sig_atomic_t escapable; /* guard_resume is where the run began */
    volatile sig_atomic_t hooked;
    volatile sig_atomic_t fired;
    uint64_t ticked; /* guard_tick's: the run that it saw last, and for how long it has */
    int64_t ticked_ns;
    volatile sig_atomic_t overdrawn; /* the hook is to raise that memory is out */
    bool bottomless;                 /* it was left by guard_overdraw */
    void *volatile host_frame;       /* below it on the stack is a function of the host; or NULL */
    struct failure where;            /* place and traceback when the hook first fired; owned */
    sigset_t mask_before;
};

/* Before any thread uses a guard: installs the handler. Again: nothing. */
void guard_install(void);

/* The calling thread: from now on its Lua is guarded by it (zeroed memory). It must be detached by
 * the same thread. */
void guard_attach(struct guard *guard);
void guard_detach(struct guard *guard);

/* The calling thread: when the time of its next runs is over, until it is set again; 0: never. No
 * guard: nothing. */
void guard_set_due(uint64_t due_ns);

/* lua_resume, lua_pcall of the calling thread, under its guard if it has one. guard_call runs with
 * the JIT off, as there is no way out of it but by raising. */
int guard_resume(struct vm *vm, lua_State *L, int nargs);
int guard_call(struct vm *vm, lua_State *L, int nargs, int nresults, int handler);

/* As guard_call, for a call that is no part of another one: it can be left as guard_resume can, and
 * then returns GUARD_ESCAPED. */
int guard_call_alone(struct vm *vm, lua_State *L, int nargs, int nresults, int handler);

/* After either: it was stopped. Moves place and traceback to failure, with what it was (ERR_CPU).
 * False: it was not. */
bool guard_stopped(struct vm *vm, int status, struct failure *failure);

/* Drops what guard_stopped would report. */
void guard_reset(void);

/* The watchdog: asks for an end of that run; the caller sends SIGURG to the thread. */
void guard_ask(struct guard *guard, uint64_t number, enum guard_stage stage);

/* In a simulated world, whose watchdog sees no real time: the calling thread has computed for so
 * much longer. If that was one run of Lua, for longer than its limit, it is asked to end, and
 * SIGURG is raised. around: another guard of this thread, or NULL; what is computed beside Lua
 * counts for its run, as a test's that plays in that world. True: that run has had its time, and
 * neither stage could end it. One thread alone; for a handler of signals in which SIGURG is
 * blocked. */
bool guard_tick(int64_t step_ns, struct guard *around);

/* For the allocator, when an allocation would pass the limit; bytes: in use with it. True: allocate
 * it all the same. When compiled code allocates, LuaJIT before 2023 writes the error of a failed
 * allocation over a live slot of the stack, and the process crashes. So in compiled code the error
 * waits for the next interpreted instruction. The collector sees to it that one comes: compiled
 * code is left when a cycle ends. At twice the limit the run is left by a jump, where one is
 * possible: then this does not return. */
bool guard_overdraw(struct vm *vm, size_t bytes);

/* For a state whose functions of the host are to be seen by the guard: every one. */
void guard_wrap_functions(lua_State *L);

#endif
