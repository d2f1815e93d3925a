/* Who waits for what in a world, as text. */
#include <dlfcn.h>
#include <stdio.h>
#include <utlist.h>

#include "base/world_private.h"

static const char *const kinds[] = {
    [FOR_NOTHING] = "can run",
    [FOR_MUTEX] = "waits for a mutex",
    [FOR_COND] = "waits for a condition",
    [FOR_SEMAPHORE] = "waits for a semaphore",
    [FOR_END] = "waits for the end of",
    [FOR_TIME] = "sleeps",
};

static size_t report_strand(const struct strand *strand, char *buf, size_t size)
{
    const struct world *world = strand->world;
    const struct strand *other = strand->kind == FOR_END ? strand->what : NULL;
    size_t len =
        (size_t)snprintf(buf, size, "%d %s %s%s%s, for %.3f s", strand->number, strand->name,
                         kinds[strand->kind], other ? " " : "", other ? other->name : "",
                         (double)(world->now_ns - strand->since_ns) / 1e9);
    Dl_info info;
    if (len < size && strand->until_ns != NEVER)
        len += (size_t)snprintf(buf + len, size - len, ", until %.3f s from now",
                                (double)(strand->until_ns - world->now_ns) / 1e9);
    if (len < size && strand->from && dladdr(strand->from, &info) && info.dli_fname)
        len += (size_t)snprintf(buf + len, size - len, ", at %s+0x%zx", info.dli_fname,
                                (size_t)((const char *)strand->from - (char *)info.dli_fbase - 1));
    if (len < size)
        len += (size_t)snprintf(buf + len, size - len, "\n");
    return len;
}

const char *world_report(struct world *world)
{
    size_t len = 0;
    const struct strand *strand;
    world->report[0] = '\0';
    DL_FOREACH(world->all, strand) {
        if (strand->state != STRAND_ENDED && len < REPORT_BYTES)
            len += report_strand(strand, world->report + len, REPORT_BYTES - len);
    }
    return world->report;
}
