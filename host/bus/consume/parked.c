/* parked - what is read of the headers of a parked message, and written into those of another. */
#include "bus/consume/parked.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/value.h"

/* What moonbus says of a message that is parked. What its publisher wrote and JetStream would act
 * upon now travels with the same beginning: Moonbus-Later-Nats-TTL. */
#define HEADER "Moonbus-Later-"
#define HEADER_AT HEADER "At"
#define HEADER_SUBJECT HEADER "Subject"
#define HEADER_ID HEADER "Id"
#define HEADER_STATE HEADER "State"
#define HEADER_OF HEADER "Of" /* of what follows a parked message: that one's sequence */

#define SEQUENCE_MOST (1ULL << 53) /* JSON's numbers are exact until there */

static bool begins(struct span name, const char *with)
{
    size_t len = strlen(with);
    return name.len > len && strncasecmp(name.at, with, len) == 0;
}

/* A header of a parked message, for the one that is published: NULL: it is left out. */
static const char *published_name(struct span name, char *buf, size_t size)
{
    bool ours = begins(name, HEADER), theirs = begins(name, HEADER "Nats-");
    if (name.len >= size || (ours && !theirs) || begins(name, "Nats-"))
        return NULL;
    span_text(name, buf, size);
    return theirs ? buf + strlen(HEADER) : buf;
}

/* And for the one that is due: all but what JetStream was told. */
static const char *claimed_name(struct span name, char *buf, size_t size)
{
    if (name.len >= size || begins(name, "Nats-") || span_is(name, HEADER_STATE) ||
        span_is(name, HEADER_OF))
        return NULL;
    return span_text(name, buf, size);
}

int parked_copy_headers(const struct delivery *delivery, bool is_claim, struct headers *headers,
                        struct err *err)
{
    char room[512];
    struct header_field field;
    size_t position = 0;
    int code = 0;
    while (code != ERR_MEMORY && header_block_next(&delivery->packet.headers, &position, &field)) {
        const char *name = is_claim ? claimed_name(field.name, room, sizeof room)
                                    : published_name(field.name, room, sizeof room);
        if (name)
            code = headers_add_received(headers, span_of(name), field.value, err);
    }
    return code == ERR_MEMORY ? code : 0;
}

int parked_add_claim(const struct delivery *delivery, struct headers *headers, struct err *err)
{
    char sequence[32];
    int len =
        snprintf(sequence, sizeof sequence, "%llu", (unsigned long long)delivery->stream_sequence);
    int code = headers_add(headers, HEADER_STATE, "due", 3, err);
    if (!code)
        code = headers_add(headers, HEADER_OF, sequence, (size_t)len, err);
    if (!code)
        code =
            headers_add(headers, "Nats-Expected-Last-Subject-Sequence", sequence, (size_t)len, err);
    return code;
}

/* With a host's rights nobody commands its server. */
static bool is_command(const char *subject, const struct jsapi *jsapi)
{
    return strncmp(subject, "$JS.", 4) == 0 || strncmp(subject, "$SYS.", 5) == 0 ||
           jsapi_owns(jsapi, subject);
}

bool parked_read(const struct delivery *delivery, const struct jsapi *jsapi,
                 struct parked_target *target)
{
    const struct header_block *block = &delivery->packet.headers;
    unsigned long long at = 0;
    struct span to = header_block_find(block, HEADER_SUBJECT);
    struct span given = header_block_find(block, HEADER_ID);
    if (!to.at || !given.at || to.len >= sizeof target->subject || given.len >= sizeof target->id ||
        given.len == 0 || !span_number(header_block_find(block, HEADER_AT), &at) || at > INT64_MAX)
        return false;
    span_text(to, target->subject, sizeof target->subject);
    span_text(given, target->id, sizeof target->id);
    target->at_ns = (int64_t)at;
    return subject_check(to.at, to.len, SUBJECT_PUBLISH, NULL) == 0 &&
           !is_command(target->subject, jsapi);
}

unsigned long long parked_followed(const struct delivery *delivery)
{
    unsigned long long sequence;
    struct span of = header_block_find(&delivery->packet.headers, HEADER_OF);
    return span_number(of, &sequence) && sequence <= SEQUENCE_MOST ? sequence : 0;
}

bool parked_is_follower(const struct delivery *delivery)
{
    return header_block_find(&delivery->packet.headers, HEADER_STATE).at != NULL;
}

bool parked_is_cancelled(const struct delivery *delivery)
{
    return span_is(header_block_find(&delivery->packet.headers, HEADER_STATE), "cancelled");
}
