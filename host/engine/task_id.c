/* The ids of what a task publishes: how often it has published to each subject. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/hash.h"
#include "base/join.h"
#include "engine/task_internal.h"

struct publish_count {
    UT_hash_handle hh;
    unsigned count;
    char subject[];
};

void task_forget_publishes(struct task *task)
{
    struct publish_count *count, *next;
    free(task->publish);
    HASH_ITER(hh, task->publishes, count, next) {
        HASH_DEL(task->publishes, count);
        free(count);
    }
}

/* Most handlers publish to one subject: the first needs no hash. */
static unsigned count_publish(struct task *task, const char *subject)
{
    struct publish_count *count = task->publish;
    size_t len = strlen(subject);
    if (count && strcmp(count->subject, subject) == 0)
        return ++count->count;
    if (count)
        HASH_FIND(hh, task->publishes, subject, len, count);
    if (count)
        return ++count->count;
    count = malloc(sizeof *count + len + 1);
    if (!count)
        return 0;
    memcpy(count->subject, subject, len + 1);
    count->count = 1;
    if (task->publish)
        HASH_ADD_KEYPTR(hh, task->publishes, count->subject, len, count);
    else
        task->publish = count;
    return 1;
}

bool task_message_id(struct task *task, const char *input, const char *subject, char *buf,
                     size_t size)
{
    const struct delivery *delivery = task->root->delivery;
    char own[1024];
    if (!input) {
        if (!delivery || !delivery->consumer)
            return false;
        input = delivery_id(delivery, own, sizeof own);
    }
    unsigned k = count_publish(task, subject);
    struct join id = join_in(buf, size);
    join_text(&id, input);
    join_text(&id, ":");
    join_text(&id, task->path);
    join_text(&id, ".");
    join_number(&id, k);
    join_text(&id, ":");
    struct join before = id;
    join_text(&id, subject);
    if (join_cut(&id)) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, hash_add(HASH_START, subject, strlen(subject)));
        id = before;
        join_text(&id, hash);
    }
    return k > 0 && !join_cut(&id);
}
