/* burst - what one thread sends in a short while goes out together, written by that thread.
 *
 *   link_send ── the writer is at work, or there is no burst ──▶ the writer writes it
 *       └─────── the writer sleeps ──▶ noted ── burst_write, burst_end ──▶ this thread does
 *
 * To wake a writer takes longer than to write what a handler sends, and a burst is written by one
 * call of the kernel. Whoever has a burst writes before it waits for anything; should it compute
 * instead, somebody else calls link_wake. Only connections to which any thread may write take part
 * (transport_place.any_thread).
 *
 * Owner: the thread that has begun it. In a burst, it must not wait for what it sends. */
#ifndef MOONBUS_BUS_LINK_BURST_H
#define MOONBUS_BUS_LINK_BURST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/value.h"

struct link;

/* The connections that a host has. */
#define BURST_LINKS 2
/* So many frames, and so long after the first one: then it is written, though there may be more.
 * Long against the microseconds of a frame, short against the network. */
#define BURST_FRAMES 64
#define BURST_NS ((uint64_t)NS_PER_MS / 10)

struct burst {
    struct link *links[BURST_LINKS]; /* to which something was sent; not owned */
    unsigned frames;                 /* so many, since the last write */
    uint64_t since_ns;               /* when the first of them was, or earlier */
    uint64_t now_ns;                 /* what burst_look was told last */
};

/* The calling thread, which has none: what it sends from now on is noted. All zero. */
void burst_begin(struct burst *burst);
/* Writes what was noted; no lock held. Where somebody else has begun to write meanwhile, that one
 * goes on with it. */
void burst_write(struct burst *burst);
/* The same, and from now on nothing is noted. */
void burst_end(struct burst *burst);

/* Writes what was noted if there is enough, or for long enough; now_ns: about now, as the thread
 * last looked at the clock. */
static inline void burst_look(struct burst *burst, uint64_t now_ns)
{
    burst->now_ns = now_ns;
    if (burst->frames && (burst->frames >= BURST_FRAMES || now_ns - burst->since_ns >= BURST_NS))
        burst_write(burst);
}

/* For link_send alone. False: the calling thread has no burst. */
bool burst_note(struct link *link);

#endif
