/* A search for LuaJIT's list of areas, and their unmapping. */
#include "vm/machine_code.h"

#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define AREA_MOST (64u * 1024 * 1024)
#define AREAS_MOST 4096

/* How LuaJIT begins an area. */
struct area {
    const struct area *next;
    size_t size;
};

struct range {
    uintptr_t from, to;
};

struct ranges {
    struct range *list; /* owned */
    size_t count, capacity;
};

static bool add_range(struct ranges *ranges, struct range range)
{
    if (ranges->count == ranges->capacity) {
        size_t capacity = ranges->capacity ? 2 * ranges->capacity : 64;
        struct range *grown = realloc(ranges->list, capacity * sizeof *grown);
        if (!grown)
            return false;
        ranges->list = grown;
        ranges->capacity = capacity;
    }
    ranges->list[ranges->count++] = range;
    return true;
}

/* The executable mappings without a file (proc(5)): "from-to perms offset dev inode". */
static bool read_ranges(struct ranges *ranges)
{
    char line[512];
    bool read = true;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return false;
    while (read && fgets(line, sizeof line, maps)) {
        unsigned long from, to, inode;
        char permissions[5];
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &from, &to, permissions, &inode) == 4 &&
            permissions[0] == 'r' && permissions[2] == 'x' && inode == 0)
            read = add_range(ranges, (struct range){from, to});
    }
    fclose(maps);
    return read;
}

static bool is_inside(const struct ranges *ranges, uintptr_t from, size_t size)
{
    for (size_t i = 0; i < ranges->count; i++) {
        if (from >= ranges->list[i].from && from < ranges->list[i].to)
            return size <= ranges->list[i].to - from;
    }
    return false;
}

/* What a state's own block says of its areas: the words of LuaJIT's jit_State in their order. */
struct anchor {
    const struct area *area;
    uintptr_t top, bottom;      /* what is free of the newest area is between them */
    size_t area_size, all_size; /* of it, and of all of them */
};

/* All has to fit. The end of an area alone may well be where the area of another state begins. */
static bool is_anchor(const struct ranges *ranges, const struct anchor *anchor, size_t page)
{
    uintptr_t at = (uintptr_t)anchor->area;
    size_t sum = 0;
    int count = 0;
    if (!at || anchor->bottom < at + sizeof(struct area) || anchor->top < anchor->bottom ||
        anchor->area_size == 0 || anchor->area_size > AREA_MOST ||
        anchor->top > at + anchor->area_size)
        return false;
    for (const struct area *area = anchor->area; area; area = area->next) {
        at = (uintptr_t)area;
        if (at % page || !is_inside(ranges, at, page) || area->size == 0 || area->size % page ||
            area->size > AREA_MOST || !is_inside(ranges, at, area->size) || ++count > AREAS_MOST)
            return false;
        sum += area->size;
    }
    return anchor->area->size == anchor->area_size && sum == anchor->all_size;
}

/* libgcc's own; no header has them. */
struct unwind_bases {
    void *text, *data, *function;
};
const void *_Unwind_Find_FDE(void *pc, struct unwind_bases *bases);
void __deregister_frame(void *begin);

/* LuaJIT has registered the area with the unwinder, by the frame description behind its head.
 * Errors that are raised later walk through all registered areas, so this one has to be
 * deregistered. False: it is registered in some other way. */
static bool deregister_frames(const struct area *area)
{
    struct unwind_bases bases;
    char *last = (char *)(uintptr_t)area + area->size - sizeof(void *);
    const char *begin = (const char *)(area + 1);
    const char *found = _Unwind_Find_FDE(last, &bases);
    int32_t to_common;
    if (!found)
        return true;
    if (found < begin || found > last)
        return false;
    memcpy(&to_common, found + 4, sizeof to_common); /* LSB, "Eh Frame": from here to the CIE */
    if (found + 4 - to_common != begin)
        return false;
    __deregister_frame((char *)(uintptr_t)begin);
    return !_Unwind_Find_FDE(last, &bases);
}

static bool unmap(const struct area *area)
{
    bool unmapped = true;
    while (area) {
        struct area head = *area;
        bool known_to_none = deregister_frames(area);
        unmapped = known_to_none && munmap((void *)(uintptr_t)area, head.size) == 0 && unmapped;
        area = head.next;
    }
    return unmapped;
}

/* 1: they were unmapped. 0: there are none. -1: what is mapped cannot be known, or unmapped. */
static int free_areas(const void *block, size_t size)
{
    struct ranges ranges = {0};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uintptr_t *words = block;
    int done = read_ranges(&ranges) ? 0 : -1;
    for (size_t i = 0; done == 0 && (i * sizeof *words) + sizeof(struct anchor) <= size; i++) {
        struct anchor anchor;
        memcpy(&anchor, words + i, sizeof anchor);
        if (is_anchor(&ranges, &anchor, page))
            done = unmap(anchor.area) ? 1 : -1;
    }
    free(ranges.list);
    return done;
}

/* --- is it so here? --- */

#define ARENA ((size_t)512 * 1024) /* ten times what the state takes */

/* An allocator that frees nothing: all goes with the arena, as a broken state goes. */
struct arena {
    char *bytes;
    size_t used, first; /* first: the size of the first block, which is the state's own */
};

static void *allocate(void *data, void *memory, size_t old_size, size_t new_size)
{
    struct arena *arena = data;
    size_t size = (new_size + 15) & ~(size_t)15;
    if (size <= old_size)
        return new_size ? memory : NULL;
    if (size > ARENA - arena->used)
        return NULL;
    char *block = arena->bytes + arena->used;
    arena->used += size;
    if (!arena->first)
        arena->first = size;
    return memory ? memcpy(block, memory, old_size) : block;
}

static int compile(lua_State *L)
{
    lua_pushcfunction(L, luaopen_jit);
    lua_call(L, 0, 0);
    if (luaL_loadstring(L, "local n = 0 for i = 1, 1000 do n = n + i end return n") != 0)
        return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

static pthread_once_t tried = PTHREAD_ONCE_INIT;
static bool known; /* written once, by try_once */

static void try_once(void)
{
    struct arena arena = {.bytes = malloc(ARENA)};
    lua_State *L = arena.bytes ? lua_newstate(allocate, &arena) : NULL;
    if (L && lua_cpcall(L, compile, NULL) == 0)
        known = free_areas(arena.bytes, arena.first) == 1;
    free(arena.bytes);
}

static atomic_uint left;

void machine_code_free(const void *block, size_t size)
{
    pthread_once(&tried, try_once);
    if (!known || free_areas(block, size) < 0)
        atomic_fetch_add(&left, 1);
}

unsigned machine_code_left(void)
{
    return atomic_load(&left);
}

#define MAPS_DEFAULT 65530
#define MAPS_SHARE 8

unsigned machine_code_most(void)
{
    unsigned maps = MAPS_DEFAULT;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file && fscanf(file, "%u", &maps) != 1)
        maps = MAPS_DEFAULT;
    if (file)
        fclose(file);
    return maps / MAPS_SHARE;
}
