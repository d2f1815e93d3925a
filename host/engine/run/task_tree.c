/* The tree of a run: what its handler spawns, and how that is cancelled and ends. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/hash.h"
#include "engine/run/task_private.h"
#include "engine/sched/dispatch.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

static void cancel_one(struct task *task, enum cancel_reason reason)
{
    if (task->cancelled || task->state == TASK_ENDED)
        return;
    task->cancelled = reason;
    if (task->state == TASK_WAITING)
        task_make_runnable(task);
}

/* There may be ten thousands of children: one pass. Parents stand before their children. */
void task_end_root(struct task *root)
{
    root->state = TASK_ENDING;
    struct task *child;
    DL_FOREACH2(root->spawned_tasks, child, peer_next)
    {
        bool orphan = child->parent != root && child->parent->cancelled;
        if (!child->kept || root->cancelled || orphan)
            cancel_one(child, CANCEL_PARENT);
    }
    if (!root->spawned_tasks)
        task_end(root);
    else
        task_begin_timeout(root);
}

static void adopt_children(struct task *task)
{
    struct task *other;
    DL_FOREACH2(task->root->spawned_tasks, other, peer_next)
    {
        if (other->parent == task)
            other->parent = task->parent;
    }
    task->parent->children += task->children;
    task->children = 0;
}

void task_end_child(struct task *task)
{
    struct task *root = task->root;
    DL_DELETE2(root->spawned_tasks, task, peer_prev, peer_next);
    task->parent->children--;
    if (task->children)
        adopt_children(task);
    task->state = TASK_ENDED;
    task_release(task);
    if (root->state == TASK_ENDING && !root->spawned_tasks)
        task_end(root);
}

/* Its place in the tree of spawns. Message ids are made of it, so that of two tasks must differ:
 * one that is too deep for its whole path has the hash of it. */
static void name_path(struct task *task, const struct task *parent)
{
    char path[sizeof task->path + 16];
    int len = parent == parent->root
                  ? snprintf(path, sizeof path, "%u", parent->spawned)
                  : snprintf(path, sizeof path, "%s.%u", parent->path, parent->spawned);
    if ((size_t)len < sizeof task->path)
        memcpy(task->path, path, (size_t)len + 1);
    else
        snprintf(task->path, sizeof task->path, "%016" PRIx64,
                 hash_add(HASH_START, path, (size_t)len));
}

struct task *task_spawn(struct task *parent, lua_State *L, int nargs, bool kept)
{
    struct instance *instance = parent->instance;
    struct task *task = task_new(instance);
    if (!task)
        return NULL;
    task_enlist(task);
    if (vm_checkout(instance->vm, &task->coroutine, NULL) != 0) {
        task_unhang(task, false);
        task_release(task);
        return NULL;
    }
    task->root = parent->root;
    task->parent = parent;
    task->kept = kept;
    parent->spawned++;
    parent->children++;
    name_path(task, parent);
    DL_APPEND2(task->root->spawned_tasks, task, peer_prev, peer_next);
    vm_move(instance->vm, L, task->coroutine, nargs + 1);
    task->resume_args = nargs;
    task_make_runnable(task);
    return task_retain(task);
}

static bool descends(const struct task *task, const struct task *from)
{
    while (task && task != from)
        task = task->parent;
    return task != NULL;
}

void task_cancel(struct task *task, enum cancel_reason reason)
{
    if (task->state == TASK_ENDED)
        return;
    cancel_one(task, reason);
    if (!task->children)
        return;
    struct task *other;
    DL_FOREACH2(task->root->spawned_tasks, other, peer_next)
    {
        if (other != task && descends(other, task))
            cancel_one(other, reason);
    }
}

static void cancel_roots(struct instance *instance, enum cancel_reason reason)
{
    struct task *task, *next;
    DL_FOREACH_SAFE(instance->tasks, task, next) {
        /* One whose function has returned is on no list: its children are. */
        if (task->root == task || task->root->state == TASK_ENDING)
            task_cancel(task->root, reason);
    }
}

void task_on_stop(struct event *event, struct instance *instance)
{
    (void)event;
    cancel_roots(instance, CANCEL_STOP);
}

/* A "start" hook may be a loop for as long as its version serves: it ends with it. */
static void cancel_start_hooks(struct instance *instance)
{
    struct task *task, *next;
    DL_FOREACH_SAFE(instance->tasks, task, next) {
        if (task->root == task && task->source->state.brings == SOURCE_BRINGS_START)
            task_cancel(task, CANCEL_REPLACED);
    }
}

void task_on_retire(struct event *event, struct instance *instance)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    (void)event;
    dispatch_lock(dispatch);
    instance->retire_posted = false;
    bool all = instance->generation->cancelled;
    dispatch_unlock(dispatch);
    if (all)
        cancel_roots(instance, CANCEL_RETIRED);
    else
        cancel_start_hooks(instance);
}
