/* Mirrors: a hash table of each. */
#include "engine/source/mirror.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/table.h"
#include "base/value.h"
#include "bus/ack_subject.h"
#include "bus/consume/ordered.h"
#include "bus/packet.h"

/* What a key costs besides its name and its value. */
#define KEY_OVERHEAD 160

struct mirror_key {
    UT_hash_handle hh;
    struct mirror_value *value; /* a reference */
    char subject[];
};

struct mirror {
    struct mirror *next; /* of the mirrors */
    struct mirrors *mirrors;
    char *script, *stream; /* owned; never change */
    int references;        /* under the lock of the mirrors */

    struct mutex lock; /* guards all below */
    struct mirror_key *keys;
    size_t bytes, most;
    bool overflowed;         /* something was not kept since it began */
    uint64_t seen;           /* the highest revision that the feed has brought; 0: none */
    unsigned feed;           /* counts those that feed it */
    struct ordered *ordered; /* a reference; NULL: nothing feeds it */
    int64_t max_age_ns;
    int64_t lives_ns; /* messages of the stream; 0: for ever */
    uint64_t first;   /* of the stream: what is older is gone */
};

struct mirrors {
    struct mutex lock;
    struct mirror *list;
};

/* --- life --- */

struct mirrors *mirrors_new(void)
{
    struct mirrors *mirrors = calloc(1, sizeof *mirrors);
    if (mirrors)
        mutex_init(&mirrors->lock);
    return mirrors;
}

void mirrors_free(struct mirrors *mirrors)
{
    if (!mirrors)
        return;
    mutex_destroy(&mirrors->lock);
    free(mirrors);
}

static void free_mirror(struct mirror *mirror)
{
    mutex_destroy(&mirror->lock);
    free(mirror->script);
    free(mirror->stream);
    free(mirror);
}

static struct mirror *make_mirror(struct mirrors *mirrors, const char *script, const char *stream)
{
    struct mirror *mirror = calloc(1, sizeof *mirror);
    if (!mirror)
        return NULL;
    mutex_init_spinning(&mirror->lock);
    mirror->mirrors = mirrors;
    mirror->script = strdup(script);
    mirror->stream = strdup(stream);
    if (mirror->script && mirror->stream)
        return mirror;
    free_mirror(mirror);
    return NULL;
}

struct mirror *mirror_open(struct mirrors *mirrors, const char *script, const char *stream)
{
    struct mirror *mirror;
    mutex_lock(&mirrors->lock);
    LL_FOREACH(mirrors->list, mirror) {
        if (strcmp(mirror->script, script) == 0 && strcmp(mirror->stream, stream) == 0)
            break;
    }
    if (!mirror && (mirror = make_mirror(mirrors, script, stream)))
        LL_PREPEND(mirrors->list, mirror);
    if (mirror)
        mirror->references++;
    mutex_unlock(&mirrors->lock);
    return mirror;
}

struct mirror *mirror_retain(struct mirror *mirror)
{
    mutex_lock(&mirror->mirrors->lock);
    mirror->references++;
    mutex_unlock(&mirror->mirrors->lock);
    return mirror;
}

/* --- keys --- */

static void unrefer(struct mirror *mirror, struct mirror_value *value)
{
    must_hold(&mirror->lock);
    if (--value->references == 0)
        free(value);
}

static void remove_key(struct mirror *mirror, struct mirror_key *key)
{
    must_hold(&mirror->lock);
    mirror->bytes -= KEY_OVERHEAD + strlen(key->subject) + key->value->len;
    HASH_DEL(mirror->keys, key);
    unrefer(mirror, key->value);
    free(key);
}

static void remove_all(struct mirror *mirror)
{
    struct mirror_key *key, *next;
    must_hold(&mirror->lock);
    HASH_ITER(hh, mirror->keys, key, next)
        remove_key(mirror, key);
}

void mirror_release(struct mirror *mirror)
{
    struct mirrors *mirrors = mirror->mirrors;
    mutex_lock(&mirrors->lock);
    bool last = --mirror->references == 0;
    if (last)
        LL_DELETE(mirrors->list, mirror);
    mutex_unlock(&mirrors->lock);
    if (!last)
        return;
    mutex_lock(&mirror->lock);
    remove_all(mirror);
    mutex_unlock(&mirror->lock);
    free_mirror(mirror);
}

static struct mirror_value *make_value(const char *data, size_t len)
{
    struct mirror_value *value = calloc(1, sizeof *value + len + 1);
    if (!value)
        return NULL;
    char *copy = (char *)(value + 1);
    if (data)
        memcpy(copy, data, len);
    value->deleted = !data;
    value->data = copy;
    value->len = data ? len : 0;
    value->references = 1;
    return value;
}

static struct mirror_key *find_key(const struct mirror *mirror, const char *subject)
{
    struct mirror_key *key;
    must_hold(&mirror->lock);
    HASH_FIND_STR(mirror->keys, subject, key);
    return key;
}

/* False: no memory. */
static bool add_key(struct mirror *mirror, const char *subject, struct mirror_value *value)
{
    must_hold(&mirror->lock);
    struct mirror_key *key = malloc(sizeof *key + strlen(subject) + 1);
    if (!key)
        return false;
    strcpy(key->subject, subject);
    key->value = value;
    HASH_ADD_STR(mirror->keys, subject, key);
    if (!table_has(key)) {
        free(key);
        return false;
    }
    mirror->bytes += KEY_OVERHEAD + strlen(subject) + value->len;
    return true;
}

/* Takes the value over. What finds no room is not kept. */
static void put_value(struct mirror *mirror, const char *subject, struct mirror_value *value)
{
    must_hold(&mirror->lock);
    struct mirror_key *key = find_key(mirror, subject);
    size_t bytes = KEY_OVERHEAD + strlen(subject) + value->len;
    if (key && key->value->revision >= value->revision) {
        unrefer(mirror, value);
        return;
    }
    if (key)
        remove_key(mirror, key);
    bool fits = bytes <= mirror->most && mirror->bytes <= mirror->most - bytes;
    if (fits && add_key(mirror, subject, value))
        return;
    mirror->overflowed = true;
    unrefer(mirror, value);
}

/* --- what feeds it --- */

unsigned mirror_begin(struct mirror *mirror, struct ordered *ordered, size_t bytes,
                      int64_t max_age_ns)
{
    mutex_lock(&mirror->lock);
    struct ordered *before = mirror->ordered;
    remove_all(mirror);
    mirror->ordered = ordered_retain(ordered);
    mirror->most = bytes;
    mirror->max_age_ns = max_age_ns;
    mirror->overflowed = false;
    mirror->seen = 0;
    unsigned feed = ++mirror->feed;
    mutex_unlock(&mirror->lock);
    if (before)
        ordered_free(before);
    return feed;
}

void mirror_end(struct mirror *mirror, unsigned feed)
{
    struct ordered *before = NULL;
    mutex_lock(&mirror->lock);
    if (mirror->feed == feed) {
        before = mirror->ordered;
        mirror->ordered = NULL;
        remove_all(mirror);
    }
    mutex_unlock(&mirror->lock);
    if (before)
        ordered_free(before);
}

void mirror_clear(struct mirror *mirror, unsigned feed)
{
    mutex_lock(&mirror->lock);
    if (mirror->feed == feed) {
        remove_all(mirror);
        mirror->overflowed = false;
        mirror->first = 0;
        mirror->seen = 0;
    }
    mutex_unlock(&mirror->lock);
}

/* Does the message say that its key has no value? ADR-8; ADR-48: markers of the server's own. */
static bool is_deletion(const struct header_block *headers)
{
    struct span operation = header_block_find(headers, "KV-Operation");
    if (operation.at)
        return span_is(operation, "DEL") || span_is(operation, "PURGE");
    struct span reason = header_block_find(headers, "Nats-Marker-Reason");
    return reason.at &&
           (span_is(reason, "MaxAge") || span_is(reason, "Purge") || span_is(reason, "Remove"));
}

/* ADR-43: "1m", or whole seconds; "never". 0: it does not say. */
static int64_t ttl_of(const struct header_block *headers)
{
    struct span ttl = header_block_find(headers, "Nats-TTL");
    char text[32];
    int64_t ns = 0;
    if (!ttl.at || ttl.len == 0 || ttl.len > sizeof text - 2)
        return 0;
    memcpy(text, ttl.at, ttl.len);
    text[ttl.len] = '\0';
    if (strspn(text, "0123456789") == ttl.len) {
        text[ttl.len] = 's';
        text[ttl.len + 1] = '\0';
    }
    return value_duration(text, strlen(text), &ns, NULL) == 0 ? ns : 0;
}

/* No value is kept of what could not be copied, not even the one before. */
static void take_value(struct mirror *mirror, const char *subject, struct mirror_value *value)
{
    must_hold(&mirror->lock);
    struct mirror_key *key = find_key(mirror, subject);
    bool outdated = key && (!value || key->value->revision <= value->revision);
    if (value && !value->deleted) {
        put_value(mirror, subject, value);
        return;
    }
    if (outdated)
        remove_key(mirror, key);
    if (value)
        unrefer(mirror, value);
    else
        mirror->overflowed = true;
}

void mirror_take(struct mirror *mirror, unsigned feed, const struct packet *packet,
                 const struct ack_subject *ack)
{
    const struct header_block *headers = &packet->headers;
    struct mirror_value *value =
        make_value(is_deletion(headers) ? NULL : packet->data, packet->len);
    int64_t ttl_ns = ttl_of(headers);
    if (value) {
        value->revision = ack->stream_sequence;
        value->timestamp_ns = ack->timestamp_ns;
        value->expires_ns = ttl_ns > 0 ? ack->timestamp_ns + ttl_ns : 0;
    }
    mutex_lock(&mirror->lock);
    if (mirror->feed == feed) {
        mirror->seen = ack->stream_sequence;
        take_value(mirror, packet->subject, value);
    } else if (value)
        unrefer(mirror, value);
    mutex_unlock(&mirror->lock);
}

void mirror_note_stream(struct mirror *mirror, unsigned feed, int64_t lives_ns, uint64_t first)
{
    mutex_lock(&mirror->lock);
    if (mirror->feed == feed) {
        mirror->lives_ns = lives_ns;
        mirror->first = first;
    }
    mutex_unlock(&mirror->lock);
}

void mirror_note(struct mirror *mirror, const char *subject, const char *data, size_t len,
                 uint64_t revision, int64_t wall_ns)
{
    struct mirror_value *value = make_value(data, len);
    mutex_lock(&mirror->lock);
    /* What the feed has passed it has told, and what became of it since. */
    if (value && mirror->ordered && revision > mirror->seen) {
        value->revision = revision;
        value->timestamp_ns = wall_ns;
        put_value(mirror, subject, value);
    } else if (value) {
        unrefer(mirror, value);
    }
    mutex_unlock(&mirror->lock);
}

/* --- reading --- */

static bool has_expired(const struct mirror *mirror, const struct mirror_value *value)
{
    must_hold(&mirror->lock);
    int64_t now_ns = clock_wall_ns();
    return value->deleted || value->revision < mirror->first ||
           (value->expires_ns && now_ns >= value->expires_ns) ||
           (mirror->lives_ns > 0 && now_ns >= value->timestamp_ns + mirror->lives_ns);
}

/* Who feeds it, at a moment. */
struct feeder {
    struct ordered *ordered; /* a reference; NULL: nobody */
    unsigned feed;
    int64_t max_age_ns;
};

static struct feeder feeder_of(struct mirror *mirror)
{
    mutex_lock(&mirror->lock);
    struct feeder feeder = {.ordered = mirror->ordered ? ordered_retain(mirror->ordered) : NULL,
                            .feed = mirror->feed,
                            .max_age_ns = mirror->max_age_ns};
    mutex_unlock(&mirror->lock);
    return feeder;
}

/* May it answer? Not for a bucket that is not there: who is asked then says so. *stale: what it
 * says may be old. Ends the feeder's reference. */
static bool may_answer(const struct feeder *feeder, bool connected, bool *stale)
{
    struct ordered_stat stat;
    if (!feeder->ordered)
        return false;
    ordered_stat(feeder->ordered, &stat);
    ordered_free(feeder->ordered);
    uint64_t now_ns = clock_now_ns();
    *stale = !connected || stat.gone || stat.silent || stat.broken;
    return stat.caught_up && !stat.missing &&
           (!*stale || now_ns < stat.heard_ns + (uint64_t)feeder->max_age_ns);
}

enum mirror_answer mirror_get(struct mirror *mirror, const char *subject, bool connected,
                              const struct mirror_value **value, bool *stale)
{
    enum mirror_answer answer = MIRROR_UNKNOWN;
    struct feeder feeder = feeder_of(mirror);
    if (!may_answer(&feeder, connected, stale))
        return MIRROR_UNKNOWN;
    mutex_lock(&mirror->lock);
    const struct mirror_key *key = find_key(mirror, subject);
    if (mirror->feed != feeder.feed || !mirror->ordered) {
        answer = MIRROR_UNKNOWN; /* somebody else feeds it now, and has to begin */
    } else if (key && !has_expired(mirror, key->value)) {
        key->value->references++;
        *value = key->value;
        answer = MIRROR_HAS;
    } else if (key || !mirror->overflowed) {
        answer = MIRROR_HAS_NOT;
    }
    mutex_unlock(&mirror->lock);
    return answer;
}

void mirror_value_release(struct mirror *mirror, const struct mirror_value *value)
{
    mutex_lock(&mirror->lock);
    unrefer(mirror, (struct mirror_value *)value);
    mutex_unlock(&mirror->lock);
}
