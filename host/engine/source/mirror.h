/* mirror - the last value of each key of a bucket, kept in this process: what a bucket with `cache`
 * answers gets from. An ordered consumer feeds it, on its delivery thread; handlers read it.
 *
 *   ordered ── mirror_take ─▶ mirror (one mutex) ◀── mirror_get ── a binding
 *                                 ▲ mirror_note: a write of our own, before the stream tells it
 *
 * A key has the newest revision that was seen, from whichever side. A script has one mirror of a
 * stream, for all its instances and versions. It is fed by one consumer at a time; another one
 * begins with an empty mirror.
 *
 * A mirror is bounded: what does not fit is not kept, and from then on a key that is not here may
 * be there all the same (MIRROR_UNKNOWN). That is the answer, too, until all that was there has
 * been read, and when the server has not been heard for too long.
 *
 * Any thread. Its lock is a leaf; a puller's may be held. */
#ifndef MOONBUS_ENGINE_SOURCE_MIRROR_H
#define MOONBUS_ENGINE_SOURCE_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ack_subject;
struct mirror;
struct mirrors;
struct ordered;
struct packet;

/* What a key has; immutable. */
struct mirror_value {
    uint64_t revision;
    int64_t timestamp_ns; /* when it was stored */
    int64_t expires_ns;   /* of the wall clock; 0: not by itself */
    bool deleted;         /* it marks that the key has no value */
    size_t len;
    const char *data; /* behind it */
    int references;   /* under the mirror's lock */
};

struct mirrors *mirrors_new(void);
/* No mirror is referred to any more. NULL is allowed. */
void mirrors_free(struct mirrors *mirrors);

/* The mirror that this script has of a stream, made if need be; a reference. NULL: out of memory.
 */
struct mirror *mirror_open(struct mirrors *mirrors, const char *script, const char *stream);
struct mirror *mirror_retain(struct mirror *mirror);
void mirror_release(struct mirror *mirror);

/* From now on this consumer feeds it; it is empty at first. bytes: its bound. max_age_ns: for so
 * long after the server was last heard it answers. Returns a number for the calls below. */
unsigned mirror_begin(struct mirror *mirror, struct ordered *ordered, size_t bytes,
                      int64_t max_age_ns);
/* That consumer has stopped. */
void mirror_end(struct mirror *mirror, unsigned feed);

/* A message of the stream, which is copied. */
void mirror_take(struct mirror *mirror, unsigned feed, const struct packet *packet,
                 const struct ack_subject *ack);
/* The stream was made anew: nothing of it is known. */
void mirror_clear(struct mirror *mirror, unsigned feed);
/* What the server says of the stream: how long its messages live (0: for ever), and which is the
 * first that it has: what is older was purged. */
void mirror_note_stream(struct mirror *mirror, unsigned feed, int64_t lives_ns, uint64_t first);

/* A write of our own was stored. data: NULL: a deletion. What does not fit is left out. */
void mirror_note(struct mirror *mirror, const char *subject, const char *data, size_t len,
                 uint64_t revision, int64_t wall_ns);

enum mirror_answer {
    MIRROR_UNKNOWN, /* the server must be asked */
    MIRROR_HAS,
    MIRROR_HAS_NOT,
};
/* connected: is the link up that feeds it? *stale: the server may know better, as it is not heard.
 * *value: with a reference, for mirror_value_release. */
enum mirror_answer mirror_get(struct mirror *mirror, const char *subject, bool connected,
                              const struct mirror_value **value, bool *stale);
void mirror_value_release(struct mirror *mirror, const struct mirror_value *value);

#endif
