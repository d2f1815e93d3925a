/* fiber - see fiber.h. A stack, its guard page below it:
 *
 *   mapping ─▶ | guard | lowest ...            ... first frame |
 *                                ◀── grows down ──
 */
#include "base/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Stacks that nobody uses: the next fiber takes one, and need not map it. */
struct free_stack {
    struct free_stack *next;
};
static _Thread_local struct free_stack *free_stacks;

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static char *map_stack(void)
{
    size_t guard = page_bytes();
    char *mapping = mmap(NULL, guard + FIBER_STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mapping == MAP_FAILED)
        return NULL;
    if (mprotect(mapping, guard, PROT_NONE) != 0) {
        munmap(mapping, guard + FIBER_STACK_BYTES);
        return NULL;
    }
    return mapping + guard;
}

/* The note on a free stack stands at its upper end, whose pages are in use anyway. */
static struct free_stack *note_of(char *lowest)
{
    return (struct free_stack *)(lowest + FIBER_STACK_BYTES - 64);
}

static char *take_stack(void)
{
    struct free_stack *note = free_stacks;
    if (!note)
        return map_stack();
    free_stacks = note->next;
    return (char *)note + 64 - FIBER_STACK_BYTES;
}

static void keep_stack(char *lowest)
{
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(lowest, FIBER_STACK_BYTES);
#endif
    struct free_stack *note = note_of(lowest);
    note->next = free_stacks;
    free_stacks = note;
}

/* --- what the machine does --- */

static void start(struct fiber *fiber);

#if defined(__x86_64__)
void fiber_swap(void **save, void *load);
void fiber_entry(void);
__asm__(".text\n"
        ".globl fiber_swap\n"
        ".hidden fiber_swap\n"
        ".type fiber_swap, @function\n"
        "fiber_swap:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size fiber_swap, . - fiber_swap\n"
        /* The first time: its struct is in %rbx, the function in %r12. No frame is above this. */
        ".globl fiber_entry\n"
        ".hidden fiber_entry\n"
        ".type fiber_entry, @function\n"
        "fiber_entry:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    movq %rbx, %rdi\n"
        "    callq *%r12\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size fiber_entry, . - fiber_entry\n");

static bool prepare(struct fiber *fiber)
{
    uintptr_t *sp = (uintptr_t *)(fiber->lowest + fiber->bytes - 128);
    *--sp = (uintptr_t)fiber_entry;
    *--sp = 0;                /* rbp */
    *--sp = (uintptr_t)fiber; /* rbx */
    *--sp = (uintptr_t)start; /* r12 */
    *--sp = 0;                /* r13 */
    *--sp = 0;                /* r14 */
    *--sp = 0;                /* r15 */
    fiber->sp = sp;
    return true;
}

static void swap(struct fiber *from, struct fiber *to)
{
    fiber_swap(&from->sp, to->sp);
}

#elif defined(__aarch64__)
void fiber_swap(void **save, void *load);
void fiber_entry(void);
__asm__(".text\n"
        ".globl fiber_swap\n"
        ".hidden fiber_swap\n"
        ".type fiber_swap, %function\n"
        "fiber_swap:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size fiber_swap, . - fiber_swap\n"
        ".globl fiber_entry\n"
        ".hidden fiber_entry\n"
        ".type fiber_entry, %function\n"
        "fiber_entry:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined x30\n"
        "    mov x0, x19\n"
        "    blr x20\n"
        "    brk #0\n"
        "    .cfi_endproc\n"
        ".size fiber_entry, . - fiber_entry\n");

static bool prepare(struct fiber *fiber)
{
    uintptr_t *sp = (uintptr_t *)(fiber->lowest + fiber->bytes - 128 - 160);
    memset(sp, 0, 160);
    sp[0] = (uintptr_t)fiber;        /* x19 */
    sp[1] = (uintptr_t)start;        /* x20 */
    sp[11] = (uintptr_t)fiber_entry; /* x30 */
    fiber->sp = sp;
    return true;
}

static void swap(struct fiber *from, struct fiber *to)
{
    fiber_swap(&from->sp, to->sp);
}

#else
#include <ucontext.h>

static _Thread_local struct fiber *starting;

static void entry(void)
{
    start(starting);
}

static bool prepare(struct fiber *fiber)
{
    ucontext_t *context = calloc(1, sizeof *context);
    if (!context)
        return false;
    getcontext(context);
    context->uc_stack.ss_sp = fiber->lowest;
    context->uc_stack.ss_size = fiber->bytes - 128;
    makecontext(context, entry, 0);
    fiber->sp = context;
    return true;
}

static void swap(struct fiber *from, struct fiber *to)
{
    if (!from->sp)
        from->sp = calloc(1, sizeof(ucontext_t));
    starting = to;
    swapcontext(from->sp, to->sp);
}
#define SP_IS_OWNED 1
#endif

/* --- what the sanitizers are told --- */

static _Thread_local struct fiber *left; /* who switched last: its stack is learnt from ASan */

static void before_switch(struct fiber *from, struct fiber *to, bool for_ever)
{
    left = from;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(for_ever ? NULL : &from->fake, to->lowest, to->bytes);
#endif
#ifdef WITH_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    (void)to;
    (void)for_ever;
}

static void after_switch(struct fiber *here)
{
#ifdef WITH_ASAN
    const void *lowest;
    size_t bytes;
    __sanitizer_finish_switch_fiber(here->fake, &lowest, &bytes);
    left->lowest = (char *)lowest;
    left->bytes = bytes;
#endif
    (void)here;
}

static void start(struct fiber *fiber)
{
    after_switch(fiber);
    fiber->run(fiber->arg);
    abort();
}

/* --- for others --- */

void fiber_init_here(struct fiber *fiber)
{
    *fiber = (struct fiber){.lowest = NULL};
#ifdef WITH_TSAN
    fiber->tsan = __tsan_get_current_fiber();
#endif
}

bool fiber_init(struct fiber *fiber, void (*run)(void *arg), void *arg)
{
    *fiber = (struct fiber){.run = run, .arg = arg, .bytes = FIBER_STACK_BYTES};
    fiber->lowest = take_stack();
    if (!fiber->lowest)
        return false;
    if (!prepare(fiber)) {
        keep_stack(fiber->lowest);
        return false;
    }
#ifdef WITH_TSAN
    fiber->tsan = __tsan_create_fiber(0);
#endif
    return true;
}

void fiber_destroy(struct fiber *fiber)
{
#ifdef WITH_TSAN
    __tsan_destroy_fiber(fiber->tsan);
#endif
#ifdef SP_IS_OWNED
    free(fiber->sp);
#endif
    keep_stack(fiber->lowest);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    before_switch(from, to, false);
    swap(from, to);
    after_switch(from);
}

void fiber_end(struct fiber *from, struct fiber *to)
{
    before_switch(from, to, true);
    swap(from, to);
    abort();
}
