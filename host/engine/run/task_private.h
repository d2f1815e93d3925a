/* task_private - what task.c (one coroutine, its waits and its end), task_start.c (a run begins)
 * and task_tree.c (what a run spawns) share. Nobody else includes it. The worker only. */
#ifndef MOONBUS_ENGINE_RUN_TASK_PRIVATE_H
#define MOONBUS_ENGINE_RUN_TASK_PRIVATE_H

#include "engine/run/task.h"

/* --- task.c --- */

/* On no list, without a coroutine. NULL when there is no memory. */
struct task *task_new(struct instance *instance);
/* It is more than a handler that returns at once: on the instance's list, with a reference of that.
 * Again: nothing. */
void task_enlist(struct task *task);
void task_make_runnable(struct task *task);
/* A root's first failure is kept. Owns what failure holds. */
void task_fail(struct task *root, struct failure *failure);
/* Starts or continues the coroutine, with so many values on its stack, and does what follows. */
void task_go_on(struct task *task, int nargs);

/* --- task_tree.c --- */

/* The function of the task has returned or failed, and it has left its instance: a root waits for
 * its children, a child gives its own to its parent. May be the end of the root. */
void task_end_root(struct task *root);
void task_end_child(struct task *task);

#endif
