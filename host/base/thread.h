/* thread - starts a thread of the host as each of them must start: with a name that people see
 * in `top -H` and gdb, and with every signal blocked.
 *
 * Signals are for the main thread alone: nats.c gives up a connection on EINTR, and its threads
 * inherit the mask of whoever starts them. What the CPU raises on the spot (SIGSEGV, SIGBUS,
 * SIGFPE, SIGILL, SIGTRAP) and SIGABRT, SIGSYS stay open: a sanitizer or a debugger wants them. */
#ifndef MOONBUS_BASE_THREAD_H
#define MOONBUS_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "base/err.h"

/* How large a stack is asked for, whatever the machine's own limit is: a handler may use much of it
 * (vm/stack.h). What is not used takes no memory. */
#define THREAD_STACK_BYTES ((size_t)16 << 20)

/* name: at most 15 bytes, copied. run(arg) on the new thread. 0, or ERR_SYSTEM. */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                 struct err *err);

/* Blocks the same signals in the calling thread; the old mask to *before (or NULL). For what
 * starts threads by itself, as nats.c does. */
void thread_block_signals(sigset_t *before);

/* For a mutex that is held for less than a microsecond, many thousand times a second: who finds it
 * taken looks again for a moment, before it goes to sleep and has to be woken. */
void thread_mutex_init(pthread_mutex_t *mutex);

#endif
