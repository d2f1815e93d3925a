/* fiber - a stack of its own for a function that can stop in the middle, and go on later; who runs
 * next is for whoever switches (world.h does). Nothing else in the host knows it.
 *
 * All fibers of an OS thread run on that thread, one at a time: a switch saves what a function may
 * count on across a call, and no signal mask. AddressSanitizer and ThreadSanitizer are told of each
 * switch. x86-64 and aarch64 by a few instructions, any other machine by ucontext. */
#ifndef MOONBUS_BASE_FIBER_H
#define MOONBUS_BASE_FIBER_H

#include <stdbool.h>
#include <stddef.h>

#define FIBER_STACK_BYTES ((size_t)16 << 20) /* as a thread's; what is not used takes no memory */

/* Where something stopped. Its fields are fiber's own. */
struct fiber {
    void *sp;     /* its stack pointer; ucontext: the context */
    char *lowest; /* of its stack, the page below is a guard; NULL: the OS thread's own stack */
    size_t bytes;
    void (*run)(void *arg);
    void *arg;
    void *fake, *tsan; /* the sanitizers' */
};

/* For the stack that the caller runs on: what it is left by and comes back to. */
void fiber_init_here(struct fiber *fiber);

/* It will start with run(arg), which never returns: it switches away for the last time with
 * fiber_end. False: no memory for a stack. */
bool fiber_init(struct fiber *fiber, void (*run)(void *arg), void *arg);

/* Gives its stack back, which the next one of this OS thread uses again. Not the one that runs. */
void fiber_destroy(struct fiber *fiber);

/* from: the one that runs; returns when somebody switches to it. */
void fiber_switch(struct fiber *from, struct fiber *to);
/* The same for ever: nobody will switch to it. */
void fiber_end(struct fiber *from, struct fiber *to) __attribute__((noreturn));

#endif
