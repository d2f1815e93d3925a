/* task_internal - what task.c (one coroutine, its start and end), task_tree.c (what a run spawns)
 * and task_id.c (the ids of what it publishes) share. Nobody else includes it. The worker only. */
#ifndef MOONBUS_ENGINE_TASK_INTERNAL_H
#define MOONBUS_ENGINE_TASK_INTERNAL_H

#include "engine/task.h"

/* --- task.c --- */

/* On the instance's list, without a coroutine. NULL when there is no memory. */
struct task *task_new(struct instance *instance);
void task_make_runnable(struct task *task);

/* --- task_id.c --- */

/* Frees what was counted. */
void task_forget_publishes(struct task *task);

/* --- task_tree.c --- */

/* The function of the task has returned or failed, and it has left its instance: a root waits for
 * its children, a child gives its own to its parent. May be the end of the root. */
void task_end_root(struct task *root);
void task_end_child(struct task *task);

#endif
