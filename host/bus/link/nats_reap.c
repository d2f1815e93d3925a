/* Messages of nats.c that nobody needs any more, until there are enough of them. */
#include "bus/link/nats_reap.h"

#include <stddef.h>

#include "base/sync.h"

/* A wake for each message took 2 to 4 us of CPU on both sides together; shared by 64 and more it is
 * lost in the noise. An idle process keeps at most so many, and so many bytes of payload. */
#define REAP_MESSAGES 256
#define REAP_BYTES ((size_t)256 * 1024)

static struct mutex lock = MUTEX_STATIC; /* a leaf: what is below */
static natsMsg *gathered[REAP_MESSAGES];
static int count;
static size_t bytes;

/* Lock held. Moves what has gathered to `list`; returns how many. */
static int take_gathered(natsMsg **list)
{
    must_hold(&lock);
    int taken = count;
    for (int i = 0; i < taken; i++)
        list[i] = gathered[i];
    count = 0;
    bytes = 0;
    return taken;
}

static void destroy(natsMsg **list, int many)
{
    for (int i = 0; i < many; i++)
        natsMsg_Destroy(list[i]);
}

void nats_reap_later(natsMsg *msg)
{
    natsMsg *list[REAP_MESSAGES];
    int many = 0;
    if (!msg)
        return;
    size_t size = (size_t)natsMsg_GetDataLength(msg);
    mutex_lock(&lock);
    gathered[count++] = msg;
    bytes += size;
    if (count == REAP_MESSAGES || bytes >= REAP_BYTES)
        many = take_gathered(list);
    mutex_unlock(&lock);
    destroy(list, many);
}

void nats_reap_flush(void)
{
    natsMsg *list[REAP_MESSAGES];
    mutex_lock(&lock);
    int many = take_gathered(list);
    mutex_unlock(&lock);
    destroy(list, many);
}
