/* hooks - what the floor above does for the engine, which knows no binding; handed over by the app.
 * All of it runs on the thread that has the instance. */
#ifndef MOONBUS_ENGINE_HOOKS_H
#define MOONBUS_ENGINE_HOOKS_H

#include <lua.h>

struct delivery;
struct err;
struct task;

struct engine_hooks {
    /* Fills the table on top of L's stack with the C side of the bindings; may raise. */
    void (*open)(lua_State *L);
    /* Pushes the message object of a delivery onto the task's coroutine, where its caller keeps it
     * in a place that no script reaches, unless the run is that of a batch. */
    void (*push_message)(lua_State *L, struct task *task, struct delivery *delivery);
    /* The coroutine of a root is about to go, whose stack has held the objects of task->messages,
     * and its run goes on: from now on one that no script refers to is collected, and leaves the
     * list. */
    void (*loosen_messages)(struct task *task);
    /* The run of the objects of task->messages is over: a script that still has one may only read
     * it. Touches nothing of Lua's but these. */
    void (*end_messages)(struct task *task);
    /* A core handler returned: sends the first of the nresults values on top of L, unless that is
     * nil, nobody asked, or msg:respond was called. 0, or an error: it cannot be sent. */
    int (*reply)(struct task *task, lua_State *L, int nresults, struct err *err);
    /* A core handler failed: answers the requester with the error's code (400, 500...), if one may
     * be answered. */
    void (*reply_error)(struct task *task, int status, const struct err *err);
};

#endif
