/* Allocation, counted: the linker's --wrap names these functions. */
#include "refuse.h"

#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strand.h"

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
void __wrap_free(void *memory);

#define BUCKETS 4096
#define CALLER __builtin_return_address(0)

/* A block that is in use. */
struct kept {
    struct kept *next;
    void *memory;
    const void *from; /* who allocated it */
    long number;      /* of the allocation */
};

static struct {
    bool counting;
    long count;         /* allocations so far */
    long first, behind; /* those from first up to the one before behind are refused */
    long refused;       /* how many were */
    const void *from;   /* who asked for the first of them */
    long kept_count;
    struct kept *kept[BUCKETS];
    char report[2000];
} state;

/* What the calling thread does is not counted, so many times over. */
static _Thread_local uintptr_t paused;
WORLD_OWN(paused)

void refuse_begin(long nth)
{
    refuse_some(nth, nth ? 1 : 0);
}

static void remove_all_kept(void)
{
    for (int i = 0; i < BUCKETS; i++) {
        while (state.kept[i]) {
            struct kept *kept = state.kept[i];
            state.kept[i] = kept->next;
            __real_free(kept);
        }
    }
    state.kept_count = 0;
}

void refuse_some(long nth, long count)
{
    cJSON_Hooks hooks = {.malloc_fn = __wrap_malloc, .free_fn = __wrap_free};
    cJSON_InitHooks(&hooks);
    remove_all_kept();
    state.counting = true;
    state.count = state.refused = 0;
    state.first = nth;
    state.behind = nth + count;
    state.from = NULL;
}

void refuse_no_more(void)
{
    state.first = state.behind = 0;
}

void refuse_pause(void)
{
    paused++;
}

void refuse_resume(void)
{
    paused--;
}

bool refuse_end(void)
{
    cJSON_InitHooks(NULL);
    state.counting = false;
    return state.refused > 0;
}

bool refuse_counts(void)
{
    return state.counting;
}

long refuse_count(void)
{
    return state.count;
}

long refuse_kept(void)
{
    return state.kept_count;
}

static size_t report_place(size_t len, const char *what, const struct kept *kept)
{
    Dl_info info = {0};
    size_t room = len < sizeof state.report ? sizeof state.report - len : 0;
    if (!kept->from || !dladdr(kept->from, &info))
        return len;
    return len + (size_t)snprintf(state.report + len, room, "%s %ld, at %s+0x%zx\n", what,
                                  kept->number, info.dli_fname,
                                  (size_t)((const char *)kept->from - (char *)info.dli_fbase - 1));
}

const char *refuse_report(void)
{
    const struct kept refused = {.from = state.from, .number = state.first};
    state.report[0] = '\0';
    size_t len = report_place(0, "refused", &refused);
    for (int i = 0; i < BUCKETS; i++) {
        for (const struct kept *kept = state.kept[i]; kept && len < sizeof state.report / 2;
             kept = kept->next)
            len = report_place(len, "kept", kept);
    }
    return state.report;
}

/* --- who asks --- */

static bool is_counted(void)
{
    return state.counting && !paused;
}

static bool is_refused(const void *from)
{
    if (!is_counted())
        return false;
    state.count++;
    if (state.count < state.first || state.count >= state.behind)
        return false;
    if (state.refused++ == 0) {
        state.from = from;
        state.first = state.count;
    }
    return true;
}

static struct kept **place_of(const void *memory)
{
    struct kept **place = &state.kept[((uintptr_t)memory >> 4) % BUCKETS];
    while (*place && (*place)->memory != memory)
        place = &(*place)->next;
    return place;
}

static void note(void *memory, const void *from)
{
    struct kept *kept = __real_malloc(sizeof *kept);
    struct kept **place = &state.kept[((uintptr_t)memory >> 4) % BUCKETS];
    *kept = (struct kept){.next = *place, .memory = memory, .from = from, .number = state.count};
    *place = kept;
    state.kept_count++;
}

/* Also when nobody counts any more, or a pause has begun: the block is gone. */
static void unnote(const void *memory)
{
    struct kept **place, *kept;
    if (state.kept_count == 0 || !*(place = place_of(memory)))
        return;
    kept = *place;
    *place = kept->next;
    __real_free(kept);
    state.kept_count--;
}

static void *get(size_t size, const void *from)
{
    if (is_refused(from))
        return NULL;
    void *memory = __real_malloc(size);
    if (memory && is_counted()) /* other threads only look, while nobody counts */
        note(memory, from);
    return memory;
}

static char *copy(const char *text, size_t size, const void *from)
{
    size_t len = strnlen(text, size);
    char *text_copy = get(len + 1, from);
    if (text_copy) {
        memcpy(text_copy, text, len);
        text_copy[len] = '\0';
    }
    return text_copy;
}

/* --- what the linker leads here --- */

void *__wrap_malloc(size_t size)
{
    return get(size, CALLER);
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *memory = get(count * size, CALLER);
    return memory ? memset(memory, 0, count * size) : NULL;
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (!memory)
        return get(size, CALLER);
    if (is_refused(CALLER))
        return NULL;
    void *moved = __real_realloc(memory, size);
    if (moved && state.kept_count > 0 && *place_of(memory)) {
        unnote(memory);
        note(moved, CALLER);
    }
    return moved;
}

char *__wrap_strndup(const char *text, size_t size)
{
    return copy(text, size, CALLER);
}

char *__wrap_strdup(const char *text)
{
    return copy(text, PTRDIFF_MAX, CALLER);
}

void __wrap_free(void *memory)
{
    if (memory)
        unnote(memory);
    __real_free(memory);
}
