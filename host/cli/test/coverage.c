/* coverage - see coverage.h. */
#include "cli/test/coverage.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "vm/vm.h"

#define LINES_MOST 1000000

/* One file, as one script has it. */
struct covered {
    struct covered *next;
    char *script, *chunk; /* owned */
    uint32_t *counts;     /* owned; of each line, from 1 on */
    int room;
};

/* A hook gets nothing but the state: so here. Freed with the process. */
static struct covered *all, *last;
static char script[4096];

static struct covered *find(const char *chunk)
{
    struct covered *each;
    if (last && strcmp(last->chunk, chunk) == 0 && strcmp(last->script, script) == 0)
        return last;
    LL_FOREACH(all, each) {
        if (strcmp(each->chunk, chunk) == 0 && strcmp(each->script, script) == 0)
            return last = each;
    }
    each = calloc(1, sizeof *each);
    if (!each)
        return NULL;
    each->script = strdup(script);
    each->chunk = strdup(chunk);
    if (!each->script || !each->chunk) {
        free(each->script);
        free(each->chunk);
        free(each);
        return NULL;
    }
    LL_PREPEND(all, each);
    return last = each;
}

static void on_line(lua_State *L, lua_Debug *place)
{
    int line = place->currentline;
    if (line <= 0 || line > LINES_MOST || !lua_getinfo(L, "S", place) || place->source[0] != '@')
        return;
    struct covered *covered = find(place->source + 1);
    if (covered && line >= covered->room) {
        int room = line + 256;
        uint32_t *counts = realloc(covered->counts, (size_t)room * sizeof *counts);
        if (!counts)
            return;
        memset(counts + covered->room, 0, (size_t)(room - covered->room) * sizeof *counts);
        covered->counts = counts;
        covered->room = room;
    }
    if (covered && covered->counts[line] < UINT32_MAX)
        covered->counts[line]++;
}

void coverage_start(void)
{
    vm_on_line = on_line;
}

void coverage_end(void)
{
    vm_on_line = NULL;
}

void coverage_of(const char *path)
{
    strncpy(script, path, sizeof script - 1);
}

void coverage_push(lua_State *L)
{
    const struct covered *each;
    int count = 0;
    lua_newtable(L);
    LL_FOREACH(all, each) {
        lua_newtable(L);
        lua_pushstring(L, each->script);
        lua_setfield(L, -2, "script");
        lua_pushstring(L, each->chunk);
        lua_setfield(L, -2, "chunk");
        lua_newtable(L);
        for (int line = 1; line < each->room; line++) {
            if (each->counts[line] == 0)
                continue;
            lua_pushnumber(L, each->counts[line]);
            lua_rawseti(L, -2, line);
        }
        lua_setfield(L, -2, "lines");
        lua_rawseti(L, -2, ++count);
    }
}
