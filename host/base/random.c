/* random - see random.h. */
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/strand.h"
#include "base/world.h"

static void bytes_of_world(unsigned char *buf, size_t len)
{
    while (len > 0) {
        uint64_t number = world_random(world_here);
        size_t part = len < sizeof number ? len : sizeof number;
        memcpy(buf, &number, part);
        buf += part;
        len -= part;
    }
}

uint64_t random_number(void)
{
    /* No lock, and no two threads in step (splitmix64). */
    static _Thread_local uint64_t state;
    if (world_active())
        return world_random(world_here);
    if (state == 0 && getrandom(&state, sizeof state, GRND_NONBLOCK) != (ssize_t)sizeof state)
        state = (uint64_t)(uintptr_t)&state;
    state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Where getrandom is not allowed (an old seccomp filter): the device; without one, numbers that
 * differ from each other, though one who looks for them could guess them. */
static void bytes_without_getrandom(unsigned char *buf, size_t len)
{
    FILE *device = fopen("/dev/urandom", "re");
    size_t got = device ? fread(buf, 1, len, device) : 0;
    if (device)
        fclose(device);
    for (; got < len; got++)
        buf[got] = (unsigned char)random_number();
}

void random_bytes(void *buf, size_t len)
{
    unsigned char *at = buf;
    if (world_active()) {
        bytes_of_world(buf, len);
        return;
    }
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0 && errno != EINTR) {
            bytes_without_getrandom(at, len);
            return;
        }
        if (got > 0) {
            at += got;
            len -= (size_t)got;
        }
    }
}
