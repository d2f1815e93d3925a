/* vm - one Lua state: its allocator with a limit, its libraries, its pool of coroutines, and the
 * only place of the host that calls lua_resume.
 *
 *   vm_checkout ─▶ coroutine ── push function, arguments ──▶ vm_resume ─▶ VM_YIELDED ... vm_resume
 *                                                               └▶ VM_RETURNED, VM_FAILED
 *   vm_checkin ◀─────────────────────────────────────────────────────────────┘
 *
 * vm knows no NATS and nothing of tasks. A state is used by one thread at a time, any thread.
 *
 * The memory limit holds while Lua runs (vm_resume, vm_call). Host code may push values between
 * two resumes without protection: there the allocator does not refuse, and no finalizer written in
 * Lua can run (scripts get no newproxy). */
#ifndef MOONBUS_VM_VM_H
#define MOONBUS_VM_VM_H

#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vm/where.h"

struct coroutine {
    lua_State *L; /* NULL: none */
    int ref;      /* in the registry, as long as it lives */
};

/* Something of the host's that a userdata holds, so that it can be released without the collector.
 * First in the userdata. */
struct vm_held {
    struct vm_held *prev, *next;
    void (*drop)(struct vm_held *held); /* never touches Lua */
};

/* Before each block that a state has allocated. */
struct vm_block {
    struct vm_block *next;
    uintptr_t prev; /* its address; + 1 when the block is a userdata made for vm_own */
};

struct vm {
    lua_State *L;
    void *owner; /* not owned; found by vm_of(L)->owner, from any of its coroutines */
    size_t used_bytes, limit_bytes; /* limit 0: none */
    bool enforcing;                 /* Lua is running: the limit holds */
    bool exhausted;                 /* an allocation was refused since the last vm_resume */
    bool refused;                   /* memory was refused since the last vm_stays_full */
    uint64_t collect_after_ns;      /* no full collection before */
    size_t gc_from, gc_to;          /* for what use the collector's pace was set: until there */
    uint64_t load_until_ns;         /* loader's: when a script's top level has had its time */
    int64_t load_limit_ns;          /* loader's: how long that is, for the message */
    const char *load_advice;        /* loader's: what else to do, for the message; static */
    char load_file[256];            /* loader's: where it was when its time was over; "" before */
    int load_line;
    struct coroutine *pool; /* owned; finished coroutines, ready for use */
    int pooled, pool_capacity;
    struct vm_block blocks;               /* ring of all, owned; for vm_discard */
    struct vm_held held;                  /* ring of what its userdata hold */
    size_t held_at;                       /* where in its block a userdata begins */
    size_t external_bytes, external_most; /* that they hold; when to collect because of it */
    volatile sig_atomic_t allocating;
    bool broken;    /* it was left by a jump: vm_free discards it */
    bool eager;     /* MOONBUS_GC=aggressive: to find values that nothing holds */
    int64_t cpu_ns; /* one resume may take so long; 0: any time */
    bool jit_off;
    bool shows_locals; /* tracebacks have the values of locals (frames.c) */
};

/* How a resume ended; switch over all of them. */
enum vm_end {
    VM_YIELDED,  /* a binding suspended it: it will be resumed */
    VM_RETURNED, /* results are on the coroutine's stack, from index 1 to its top */
    VM_FAILED,   /* failure tells; the coroutine is dead */
    VM_BROKEN,   /* failure tells; it was left by a jump: only vm_discard may be called now */
};

/* Why Lua code failed. Strings are owned (failure_clear). Functions that can fail fill it only when
 * they do, and then overwrite what was in it. Error tables tell by their fields: code, message, and
 * (for errors that were caught and passed on) file, line, traceback. */
struct failure {
    struct err err; /* code: of an error table that has one, else ERR_HANDLER; ERR_MEMORY */
    char *file;     /* where it was raised, as the script is called in messages; or NULL */
    int line;
    char *traceback; /* or NULL */
    int status;      /* that an error table states for the requester; 0: none */
};

/* As = {0}, without the thousand bytes of the text: for where it is needed for each run. */
static inline void failure_init(struct failure *failure)
{
    failure->err.code = ERR_NONE;
    failure->err.message[0] = '\0';
    failure->file = failure->traceback = NULL;
    failure->line = failure->status = 0;
}

void failure_clear(struct failure *failure);

/* Is it an answer? One of "not found" has done its work: who asked is told. */
static inline bool failure_is_answer(const struct failure *failure)
{
    return failure->status >= 400 && failure->status < 500;
}

/* A new state with the standard libraries, lua-cjson ("cjson" by require) and the embedded modules
 * (by require from the host's own Lua; scripts see what the loader gives them). */
struct vm *vm_new(size_t limit_bytes, void *owner, struct err *err);
/* One that vm_call_alone has broken is discarded. */
void vm_free(struct vm *vm);

/* The same for a state that is broken (VM_BROKEN): runs no finalizer, touches nothing of Lua; lets
 * go what userdata hold, unmaps what was compiled, and frees the blocks. */
void vm_discard(struct vm *vm);

/* Memory was refused, and a full collection has not made room: whoever comes next will fail too.
 * Between two resumes. */
bool vm_stays_full(struct vm *vm);

/* The text of the error that LuaJIT raises when it gets no memory. */
#define VM_NO_MEMORY "not enough memory"

/* Before so much is allocated where an error must not pass. False: raise VM_NO_MEMORY. */
bool vm_has_room_for(struct vm *vm, size_t bytes);

/* False: the limit is passed, as by what was added with vm_own, and a collection has not helped. */
bool vm_has_room(struct vm *vm);

/* Another limit of its memory, from now on; 0: none. */
void vm_set_limit(struct vm *vm, size_t bytes);

/* Compiled code or only the interpreter, from now on. */
void vm_set_jit(struct vm *vm, bool on);

/* A userdata of L's holds something: drop releases it when the state is discarded. vm_unhold in its
 * __gc, or when it holds nothing any more. */
void vm_hold(lua_State *L, struct vm_held *held, void (*drop)(struct vm_held *held));
void vm_unhold(struct vm_held *held);

/* The same for a userdata without a __gc, that something of Lua's refers to; at any time in its
 * life. drop also releases it when it is collected. A finalizer is a call of Lua for each object
 * and keeps its memory for a second cycle; for an object as common as a message that was half of
 * its cost. bytes: what it holds outside of Lua, whose weight the collector does not feel; at worst
 * it is run here. */
void vm_own(lua_State *L, struct vm_held *held, size_t bytes, void (*drop)(struct vm_held *held));

/* NULL; or is called at each line that states run, from their next vm_resume or load on. Nothing
 * that runs then is compiled. For a process that counts lines: set before it has threads. */
extern void (*vm_on_line)(lua_State *L, lua_Debug *line);

/* The vm of a state or coroutine. */
struct vm *vm_of(lua_State *L);

/* A coroutine from the pool, or a new one; its stack is empty. 0 or ERR_MEMORY. */
int vm_checkout(struct vm *vm, struct coroutine *coroutine, struct err *err);

/* Back to the pool when it has finished normally (reusable), else dropped. */
void vm_checkin(struct vm *vm, struct coroutine coroutine, bool reusable);

/* Moves so many values from the top of L, which runs, to a coroutine that does not. */
void vm_move(struct vm *vm, lua_State *L, struct coroutine to, int count);

/* Starts (function and its nargs arguments on the stack) or continues (nargs values on top) a
 * coroutine. A yield that is no binding's (coroutine.yield outside of coroutine.wrap) is a failure.
 * failure: filled for VM_FAILED. */
enum vm_end vm_resume(struct vm *vm, struct coroutine coroutine, int nargs,
                      struct failure *failure);

/* Calls the function below nargs arguments on the main state, protected and under the limit, with
 * nresults results. 0, or a negative code with failure. Not for handlers: it must not yield. */
int vm_call(struct vm *vm, int nargs, int nresults, struct failure *failure);

/* The same for a call that is no part of another one: its guard may leave it by a jump, if need be.
 * Then vm->broken is set, and only vm_free may be called now. *stopped: its guard has ended it. */
int vm_call_alone(struct vm *vm, int nargs, int nresults, bool *stopped, struct failure *failure);

/* What vm_yield yields: tells the yield of a binding from any other. */
extern char vm_suspend_marker;
#define VM_SUSPEND ((void *)&vm_suspend_marker)

/* What a binding that waits returns to Lua: suspends the running coroutine until vm_resume, whose
 * values are what the binding returns. Check vm_may_yield first. */
int vm_yield(lua_State *L);

/* False where a yield would have to cross a C function (table.sort, string.gsub, require ...). */
bool vm_may_yield(lua_State *L);

/* Describes the value at index as an error: its code, text, place. For error values of any type,
 * also those whose __tostring fails. L: a coroutine that does not run and has the value; if that is
 * on top
 * (-1), it is popped. at: the coroutine whose stack has the place, or NULL. False: its __tostring
 * could only be left by a jump; failure says so, and only vm_discard may be called now. */
bool vm_describe(struct vm *vm, lua_State *L, int index, lua_State *at, struct failure *failure);

/* Pops the table in which moonbus.task keeps the error that it last raised in another coroutine
 * than its own: value, file, line, traceback. What describes an error (vm_describe) looks there for
 * its first place. In failure.c. */
void vm_keep_raised(lua_State *L);

/* Where locals are shown (shows_locals): pushes the traceback of L from that level on, with their
 * values. How many values it has pushed. In frames.c. */
int vm_push_frames(lua_State *L, int level);

/* Pushes a table as a short text, {reason = "x"}, cut at some 200 bytes; runs none of its
 * metamethods. May raise: no memory, no room on the stack. In show.c. */
const char *vm_show_table(lua_State *L, int index);

/* The names (string keys) of a table, in the order of their bytes; each is good as long as its
 * field is there. */
struct vm_name {
    const char *text;
    size_t len;
};

#define VM_NAMES_MOST 1000

/* Pushes what *names lives in; returns how many there are, -1 (with nil pushed) when they are more
 * than VM_NAMES_MOST. index: from the bottom. May raise: no memory. In show.c. */
int vm_push_names(lua_State *L, int index, struct vm_name **names);

/* Replaces the value at index by the table behind it if it is a read-only view of one; true: it
 * was. Wants two more slots of the stack; never raises. In view.c. */
bool vm_see_through(lua_State *L, int index);

/* lua-cjson, within bounds: loaders of package.preload. In json_module.c. */
int vm_open_cjson(lua_State *L);
int vm_open_cjson_safe(lua_State *L);

/* Pushes the module's table, loading it if need be: of the embedded modules, e.g. "moonbus.loader".
 * 0 or a negative code with failure. */
int vm_module(struct vm *vm, const char *name, struct failure *failure);

#endif
