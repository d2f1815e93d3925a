/* strands - see strands.h. */
#include "strands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/strand.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"

#define THINGS 8
#define PROGRAMS 32

static _Thread_local uintptr_t count_own;
WORLD_OWN(count_own)

struct program {
    struct strands *all;
    char *text; /* owned */
    struct thread thread;
    int rounds;
};

struct strands {
    struct mutex mutexes[THINGS];
    struct cond conds[THINGS];
    struct semaphore semaphores[THINGS];
    struct program programs[PROGRAMS];
    int count;
    size_t len;
    char notes[65536];
};

static void note(struct strands *strands, const char *word)
{
    size_t size = sizeof strands->notes - strands->len;
    int len = snprintf(strands->notes + strands->len, size, "%s ", word);
    if ((size_t)len < size)
        strands->len += (size_t)len;
}

static bool is_inside(void)
{
    char space[4 << 20];
    void *lowest;
    size_t bytes;
    memset(space, 1, sizeof space);
    __asm__ volatile("" : : "r"(space) : "memory");
    return thread_stack(&lowest, &bytes) && space > (char *)lowest &&
           space + sizeof space < (char *)lowest + bytes;
}

static void *run_program(void *arg);

/* Of threads: what a word does with its operands. False: it is none of these. */
static bool do_thread(struct strands *strands, const char *word, int first)
{
    struct program *other = &strands->programs[(unsigned)first % PROGRAMS];
    char name[16], text[32];
    if (strcmp(word, "start") == 0) {
        snprintf(name, sizeof name, "strand %d", first);
        thread_start(&other->thread, name, run_program, other, NULL);
    } else if (strcmp(word, "join") == 0) {
        thread_join(other->thread);
    } else if (strcmp(word, "sleep") == 0) {
        thread_sleep_until(clock_now_ns() + (uint64_t)first * NS_PER_MS);
    } else if (strcmp(word, "deep") == 0) {
        note(strands, is_inside() ? "inside" : "outside");
    } else if (strcmp(word, "own") == 0) {
        snprintf(text, sizeof text, "%d", (int)++count_own);
        note(strands, text);
    } else {
        return false;
    }
    return true;
}

static void do_sync(struct strands *strands, const char *word, int a, int b, int ms)
{
    if (strcmp(word, "lock") == 0)
        mutex_lock(&strands->mutexes[a]);
    else if (strcmp(word, "unlock") == 0)
        mutex_unlock(&strands->mutexes[a]);
    else if (strcmp(word, "signal") == 0)
        cond_signal(&strands->conds[a]);
    else if (strcmp(word, "broadcast") == 0)
        cond_broadcast(&strands->conds[a]);
    else if (strcmp(word, "post") == 0)
        semaphore_post(&strands->semaphores[a]);
    else if (strcmp(word, "take") == 0)
        semaphore_wait(&strands->semaphores[a]);
    else if (strcmp(word, "wait") == 0 && !ms)
        cond_wait(&strands->conds[a], &strands->mutexes[b]);
    else if (strcmp(word, "wait") == 0)
        note(strands, cond_wait_until(&strands->conds[a], &strands->mutexes[b],
                                      clock_now_ns() + (uint64_t)ms * NS_PER_MS)
                          ? "+"
                          : "-");
}

static void do_command(struct program *program, const char *command, const char **next)
{
    struct strands *strands = program->all;
    char word[16] = "", first[16] = "", second[16] = "", third[16] = "";
    sscanf(command, " %15[^; ] %15[^; ] %15[^; ] %15[^; ]", word, first, second, third);
    if (strcmp(word, "note") == 0) {
        note(strands, first);
    } else if (strcmp(word, "again") == 0) {
        if (++program->rounds < atoi(first))
            *next = program->text;
    } else if (!do_thread(strands, word, atoi(first))) {
        do_sync(strands, word, (*first - 'a') & 7, (*second - 'a') & 7, atoi(third));
    }
}

static void *run_program(void *arg)
{
    struct program *program = arg;
    const char *next = program->text;
    while (next) {
        const char *command = next, *end = strchr(next, ';');
        next = end ? end + 1 : NULL;
        do_command(program, command, &next);
    }
    return NULL;
}

struct strands *strands_new(const char *const *programs, int count)
{
    struct strands *strands = calloc(1, sizeof *strands);
    if (!strands || count > PROGRAMS)
        abort();
    for (int i = 0; i < THINGS; i++) {
        mutex_init(&strands->mutexes[i]);
        cond_init(&strands->conds[i]);
        semaphore_init(&strands->semaphores[i]);
    }
    for (int i = 0; i < count; i++) {
        strands->programs[i].all = strands;
        strands->programs[i].text = strdup(programs[i]);
    }
    strands->count = count;
    return strands;
}

void strands_free(struct strands *strands)
{
    for (int i = 0; i < strands->count; i++)
        free(strands->programs[i].text);
    free(strands);
}

enum world_end strands_run(struct strands *strands, struct world *world, uint64_t until_ns)
{
    return world_call(world, "strand 0", run_program, &strands->programs[0], until_ns, NULL);
}

const char *strands_notes(const struct strands *strands)
{
    return strands->notes;
}
