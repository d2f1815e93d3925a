/* The signal handler, the hook, and the jump. */
#include "vm/guard.h"

#include <dlfcn.h>
#include <link.h>
#include <luajit.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "base/strand.h"
#include "base/value.h"
#include "vm/stack.h"
#include "vm/vm_private.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(SANITIZED)
#define CAN_ESCAPE 1
#else
#define CAN_ESCAPE 0
#endif

/* So many times the limit compiled code may use before it is left by a jump. */
#define OVERDRAFT 2

#define HOOK_MASK (LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT)

/* The guard of this thread: the signal handler has nothing else to find it by. */
static _Thread_local struct guard *here;
WORLD_OWN(here)

/* Where a run of the host begins -------------------------------------------------------------- */

struct host_call {
    struct guard *guard;
    void *outer;
};

/* Also when an error passes: this file is compiled with -fexceptions, and LuaJIT unwinds. */
static void leave_host(struct host_call *call)
{
    call->guard->host_frame = call->outer;
}

/* Every C function that is not LuaJIT's own is called through this. */
static int call_host(lua_State *L, lua_CFunction function)
{
    struct guard *guard = here;
    stack_check(L, STACK_FOR_HOST);
    if (!guard)
        return function(L);
    __attribute__((cleanup(leave_host), unused)) struct host_call call = {guard, guard->host_frame};
    guard->host_frame = __builtin_frame_address(0);
    return function(L);
}

void guard_wrap_functions(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)call_host);
    luaJIT_setmode(L, -1, LUAJIT_MODE_WRAPCFUNC | LUAJIT_MODE_ON);
    lua_pop(L, 1);
}

/* Raising ------------------------------------------------------------------------------------- */

static void on_hook(lua_State *L, lua_Debug *debug);

static void set_hook(const struct guard *guard)
{
    lua_sethook(guard->vm->L, on_hook, HOOK_MASK, 1);
}

/* The error that the allocator could not raise; once, as it would have been. */
static void raise_overdrawn(lua_State *L, struct guard *guard)
{
    guard->overdrawn = 0;
    lua_sethook(L, NULL, 0, 0);
    atomic_signal_fence(memory_order_seq_cst);
    if (guard->hooked) /* by a signal, just now */
        set_hook(guard);
    lua_pushliteral(L, VM_NO_MEMORY); /* LuaJIT has that text anyway */
    lua_error(L);
}

static void on_hook(lua_State *L, lua_Debug *debug)
{
    (void)debug;
    struct guard *guard = here;
    if (guard && guard->overdrawn && !guard->hooked)
        raise_overdrawn(L, guard);
    if (!guard || !guard->hooked) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (!guard->fired) {
        __attribute__((cleanup(leave_host), unused)) struct host_call call = {guard,
                                                                              guard->host_frame};
        guard->host_frame = __builtin_frame_address(0);
        guard->fired = 1;
        bool enforcing = guard->vm->enforcing;
        guard->vm->enforcing = false;
        failure_clear(&guard->where);
        failure_trace(L, &guard->where);
        guard->vm->enforcing = enforcing;
    }
    luaL_error(L, "it ran for too long without waiting");
}

/* Escaping ------------------------------------------------------------------------------------ */

#if CAN_ESCAPE
static bool may_leave(const struct guard *guard, const ucontext_t *context)
{
#if defined(__x86_64__)
    uintptr_t pc = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    uintptr_t sp = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#else
    uintptr_t pc = (uintptr_t)context->uc_mcontext.pc;
    uintptr_t sp = (uintptr_t)context->uc_mcontext.sp;
#endif
    if (!guard->escapable || guard->vm->allocating || guard->range_count == 0 ||
        (guard->host_frame && sp < (uintptr_t)guard->host_frame))
        return false;
    for (int i = 0; i < guard->range_count; i++) {
        if (pc >= guard->ranges[i].begin && pc < guard->ranges[i].end)
            return guard->ranges[i].luajit;
    }
    return true;
}

static int add_ranges(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    struct guard *guard = data;
    int first = guard->range_count;
    bool luajit = false, host = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X))
            continue;
        if (guard->range_count == GUARD_RANGES)
            return -1;
        uintptr_t begin = info->dlpi_addr + header->p_vaddr, end = begin + header->p_memsz;
        guard->ranges[guard->range_count++] = (struct guard_range){begin, end, false};
        luajit = luajit || ((uintptr_t)lua_resume >= begin && (uintptr_t)lua_resume < end);
        host = host || ((uintptr_t)guard_ask >= begin && (uintptr_t)guard_ask < end);
    }
    /* Linked into the host LuaJIT cannot be told apart from it. */
    for (int i = first; i < guard->range_count; i++)
        guard->ranges[i].luajit = luajit && !host;
    return 0;
}
#endif

#ifdef SANITIZED
__attribute__((no_sanitize("thread", "address")))
#endif
static void
on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
    struct guard *guard = here;
    if (!guard)
        return;
    uint64_t run = atomic_load_explicit(&guard->number, memory_order_relaxed);
    if (!(run & 1) || atomic_load_explicit(&guard->target, memory_order_acquire) != run)
        return;
    /* Off and on: it may have interrupted LuaJIT just where that takes notice of a hook. */
    if (guard->hooked)
        lua_sethook(guard->vm->L, NULL, 0, 0);
    guard->hooked = 1;
    set_hook(guard);
#if CAN_ESCAPE
    if (atomic_load_explicit(&guard->stage, memory_order_acquire) == GUARD_ESCAPE &&
        may_leave(guard, context))
        _longjmp(guard->resume, 1);
#endif
}

/* How long that run is over its time; 0: it is not, or there is none. */
static int64_t tick(struct guard *guard, int64_t step_ns)
{
    uint64_t run = atomic_load_explicit(&guard->number, memory_order_relaxed);
    if (run != guard->ticked) {
        guard->ticked = run;
        guard->ticked_ns = 0;
        return 0;
    }
    int64_t limit = atomic_load_explicit(&guard->limit_ns, memory_order_relaxed);
    guard->ticked_ns += step_ns;
    if (limit <= 0 || guard->ticked_ns <= limit)
        return 0;
    bool escape = guard->ticked_ns - limit > (int64_t)GUARD_ESCAPE_AFTER_NS;
    guard_ask(guard, run, escape ? GUARD_ESCAPE : GUARD_RAISE);
    raise(SIGURG);
    return guard->ticked_ns - limit;
}

static bool runs(struct guard *guard)
{
    return guard && (atomic_load_explicit(&guard->number, memory_order_relaxed) & 1);
}

bool guard_tick(int64_t step_ns, struct guard *around)
{
    struct guard *inner = here;
    if (inner != around && runs(inner)) {
        tick(inner, step_ns);
        return false;
    }
    return runs(around) && tick(around, step_ns) > (int64_t)GUARD_LOST_AFTER_NS;
}

/* Memory -------------------------------------------------------------------------------------- */

/* From what compiled code calls to the allocator there are fewer frames than this. */
#define FRAMES_BETWEEN 32

struct walk {
    const void *luajit; /* where it is loaded */
    int frames;         /* of it, seen so far */
    bool compiled;
};

/* Compiled Lua is the only code here that is of no file. */
static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *context, void *argument)
{
    struct walk *walk = argument;
    Dl_info info;
    uintptr_t pc = (uintptr_t)_Unwind_GetIP(context);
    walk->compiled = pc != 0 && dladdr((const void *)(pc - 1), &info) == 0;
    if (walk->compiled || pc == 0)
        return _URC_END_OF_STACK;
    if (info.dli_fbase == walk->luajit)
        walk->frames++;
    else if (walk->frames > 0) /* a binding, or where the run began */
        return _URC_END_OF_STACK;
    return walk->frames < FRAMES_BETWEEN ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/* Is it compiled Lua that LuaJIT works for at the moment? */
static bool in_compiled(void)
{
    Dl_info luajit;
    struct walk walk = {0};
    if (dladdr((const void *)(uintptr_t)lua_resume, &luajit) == 0)
        return false;
    walk.luajit = luajit.dli_fbase;
    _Unwind_Backtrace(look_at_frame, &walk);
    return walk.compiled;
}

bool guard_overdraw(struct vm *vm, size_t bytes)
{
    struct guard *guard = here;
    if (!guard || guard->vm != vm ||
        !(atomic_load_explicit(&guard->number, memory_order_relaxed) & 1))
        return false;
    if (!guard->overdrawn) {
        if (!in_compiled())
            return false;
        guard->overdrawn = 1;
        if (!guard->hooked)
            set_hook(guard);
    }
    if (bytes / OVERDRAFT <= vm->limit_bytes)
        return true;
#if CAN_ESCAPE
    if (guard->escapable &&
        !(guard->host_frame && (void *)__builtin_frame_address(0) < guard->host_frame)) {
        guard->bottomless = true;
        _longjmp(guard->resume, 1);
    }
#endif
    return false;
}

/* Threads ------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
/* ThreadSanitizer delivers a signal when the thread calls the C library next, which an endless loop
 * never does. So its handler is the kernel's own matter here. */
struct kernel_action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};
void guard_restore(void);
__asm__("guard_restore:\n mov $15, %eax\n syscall\n");

void guard_install(void)
{
    struct kernel_action action = {on_signal, SA_SIGINFO | SA_RESTART | SA_NODEFER | 0x04000000UL,
                                   guard_restore, 0};
    syscall(SYS_rt_sigaction, SIGURG, &action, NULL, 8);
}
#else
void guard_install(void)
{
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    sigaction(SIGURG, &action, NULL);
}
#endif

void guard_attach(struct guard *guard)
{
    sigset_t open;
    here = guard;
    sigemptyset(&open);
    sigaddset(&open, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &open, &guard->mask_before);
}

void guard_detach(struct guard *guard)
{
    pthread_sigmask(SIG_SETMASK, &guard->mask_before, NULL);
    here = NULL;
    failure_clear(&guard->where);
}

void guard_set_due(uint64_t due_ns)
{
    if (here)
        atomic_store_explicit(&here->due_ns, due_ns, memory_order_relaxed);
}

/* Runs ---------------------------------------------------------------------------------------- */

static void enter(struct guard *guard, struct vm *vm, bool escapable)
{
    guard->vm = vm;
    guard->escapable = escapable;
    guard->hooked = guard->fired = guard->overdrawn = 0;
    guard->bottomless = false;
    guard->host_frame = NULL;
    atomic_store_explicit(&guard->limit_ns, vm->cpu_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&guard->number, 1, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

static void leave(struct guard *guard)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_fetch_add_explicit(&guard->number, 1, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    if (guard->hooked || guard->overdrawn)
        lua_sethook(guard->vm->L, NULL, 0, 0);
}

int guard_resume(struct vm *vm, lua_State *L, int nargs)
{
    struct guard *guard = here;
    if (!guard)
        return lua_resume(L, nargs);
    if (_setjmp(guard->resume)) {
        atomic_fetch_add_explicit(&here->number, 1, memory_order_release);
        return GUARD_ESCAPED;
    }
    enter(guard, vm, true);
    int status = lua_resume(L, nargs);
    leave(guard);
    return status;
}

int guard_call(struct vm *vm, lua_State *L, int nargs, int nresults, int handler)
{
    struct guard *guard = here;
    /* Inside of a run it is part of that. */
    if (!guard || (atomic_load_explicit(&guard->number, memory_order_relaxed) & 1))
        return lua_pcall(L, nargs, nresults, handler);
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    enter(guard, vm, false);
    int status = lua_pcall(L, nargs, nresults, handler);
    leave(guard);
    if (!vm->jit_off)
        luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    return status;
}

int guard_call_alone(struct vm *vm, lua_State *L, int nargs, int nresults, int handler)
{
    struct guard *guard = here;
    if (!guard || (atomic_load_explicit(&guard->number, memory_order_relaxed) & 1))
        return lua_pcall(L, nargs, nresults, handler);
    if (_setjmp(guard->resume)) {
        atomic_fetch_add_explicit(&here->number, 1, memory_order_release);
        return GUARD_ESCAPED;
    }
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    enter(guard, vm, true);
    int status = lua_pcall(L, nargs, nresults, handler);
    leave(guard);
    if (!vm->jit_off)
        luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    return status;
}

/* Apart from guard_stopped, which each run passes: it wants a large frame. */
static __attribute__((noinline)) void describe_stop(struct guard *guard, struct vm *vm, int status,
                                                    struct failure *failure)
{
    failure_clear(failure);
    char limit[32];
    value_format_duration(vm->cpu_ns, limit, sizeof limit);
    if (status == GUARD_ESCAPED && guard->bottomless) {
        err_set(
            &failure->err, ERR_MEMORY,
            "used more than %d times its %zu KB of memory (limits.memory), in compiled code "
            "that only ends with its Lua state; bus.script { jit = false } would tell the place",
            OVERDRAFT, vm->limit_bytes / 1024);
        return;
    }
    if (status == GUARD_ESCAPED) {
        err_set(&failure->err, ERR_CPU,
                "ran for more than %s without waiting (limits.cpu), in compiled code that only "
                "ends with its Lua state; bus.script { jit = false } would tell the place",
                limit);
        return;
    }
    *failure = guard->where;
    guard->where = (struct failure){0};
    guard->fired = 0;
    err_set(&failure->err, ERR_CPU, "ran for more than %s without waiting (limits.cpu)", limit);
}

bool guard_stopped(struct vm *vm, int status, struct failure *failure)
{
    struct guard *guard = here;
    if (!guard || (status != GUARD_ESCAPED && !guard->fired))
        return false;
    describe_stop(guard, vm, status, failure);
    return true;
}

void guard_reset(void)
{
    if (!here)
        return;
    failure_clear(&here->where);
    here->fired = 0;
}

void guard_ask(struct guard *guard, uint64_t number, enum guard_stage stage)
{
#if CAN_ESCAPE
    if (stage == GUARD_ESCAPE && atomic_load(&guard->stage) != GUARD_ESCAPE) {
        guard->range_count = 0;
        if (dl_iterate_phdr(add_ranges, guard) != 0)
            guard->range_count = 0;
    }
#endif
    atomic_store_explicit(&guard->stage, stage, memory_order_release);
    atomic_store_explicit(&guard->target, number, memory_order_release);
}
