/* burst - see burst.h. */
#include "bus/link/burst.h"

#include <string.h>

#include "base/bug.h"
#include "base/strand.h"
#include "bus/link/link_private.h"

static _Thread_local struct burst *burst_here;
WORLD_OWN(burst_here)

void burst_begin(struct burst *burst)
{
    BUG_ON(burst_here);
    burst_here = burst;
}

/* What is written may have more sent: by whoever waited for it to be written. */
void burst_write(struct burst *burst)
{
    while (burst->frames) {
        struct link *links[BURST_LINKS];
        memcpy(links, burst->links, sizeof links);
        memset(burst->links, 0, sizeof burst->links);
        burst->frames = 0;
        for (int i = 0; i < BURST_LINKS && links[i]; i++)
            link_write(links[i]);
    }
}

void burst_end(struct burst *burst)
{
    burst_here = NULL;
    burst_write(burst);
}

bool burst_note(struct link *link)
{
    struct burst *burst = burst_here;
    int i = 0;
    if (!burst)
        return false;
    while (i < BURST_LINKS && burst->links[i] && burst->links[i] != link)
        i++;
    if (i == BURST_LINKS)
        return false;
    burst->links[i] = link;
    if (!burst->frames++)
        burst->since_ns = burst->now_ns;
    return true;
}
