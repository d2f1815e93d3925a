/* thread - starts a thread of the host as each of them must start: with a name that people see
 * in `top -H` and gdb, and with every signal blocked. In a simulated world (world.h) it is a fiber.
 *
 * Signals are for the main thread alone: nats.c gives up a connection on EINTR, and its threads
 * inherit the mask of whoever starts them. What the CPU raises on the spot (SIGSEGV, SIGBUS,
 * SIGFPE, SIGILL, SIGTRAP) and SIGABRT, SIGSYS stay open: a sanitizer or a debugger wants them. */
#ifndef MOONBUS_BASE_THREAD_H
#define MOONBUS_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* How large a stack is asked for, whatever the machine's own limit is: a handler may use much of it
 * (vm/stack.h). What is not used takes no memory. */
#define THREAD_STACK_BYTES ((size_t)16 << 20)

/* A thread, to be copied at will. Its fields are thread's own. */
struct thread {
    pthread_t raw;
    struct strand *strand; /* in a world; or NULL */
};

/* name: at most 15 bytes, copied. run(arg) on the new thread. 0, or ERR_SYSTEM. */
int thread_start(struct thread *thread, const char *name, void *(*run)(void *), void *arg,
                 struct err *err);

/* Waits for its end, once. Not the thread itself. */
void thread_join(struct thread thread);
/* Nobody will wait for it. */
void thread_detach(struct thread thread);

/* What the calling thread belongs to, if there are several of a kind in this process, as hosts in a
 * test: every thread that it starts from now on belongs to that, too. NULL: nothing. */
void thread_set_mark(void *mark);
void *thread_mark(void);

/* The calling thread. */
struct thread thread_self(void);

/* Sends it a signal; in a world there are none. It has not been joined. */
void thread_signal(struct thread thread, int signal);

/* A thread that nobody waits for any more (its number by gettid): from now on it runs when no other
 * one wants to. In a world nothing changes. */
void thread_run_last(int tid);

/* Until then, by clock_now_ns, whatever signals come. */
void thread_sleep_until(uint64_t at_ns);

/* Where the calling thread's stack lies. False: not known. */
bool thread_stack(void **lowest, size_t *bytes);

/* Blocks the same signals in the calling thread; the old mask to *before (or NULL). For what
 * starts threads by itself, as nats.c does. */
void thread_block_signals(sigset_t *before);

#endif
