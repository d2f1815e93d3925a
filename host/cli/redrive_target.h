/* redrive_target - where a dead letter goes back to: the stream that the message came from, the
 * subject to publish so that it is stored there as before, and whether it is still the message that
 * counts.
 *
 *   letter.stream ── its subjects ──▶ the subject itself, or what its transform makes it of
 *                 └─ its sources  ──▶ the same for the stream that it gathers from, and so on
 *
 * If a stream cannot be looked at (no permission, or it is gone), the server decides: the target is
 * the stream that takes the subject.
 *
 * One thread. */
#ifndef MOONBUS_CLI_REDRIVE_TARGET_H
#define MOONBUS_CLI_REDRIVE_TARGET_H

#include "cli/jetstream.h"

#define SUBJECT_ROOM 4096 /* no server takes a longer line */

/* The streams that were looked at. */
struct targets {
    struct jetstream *js;       /* borrowed */
    struct known_stream *known; /* owned */
};

void targets_clear(struct targets *targets);

struct target {
    char subject[SUBJECT_ROOM];   /* to be published */
    char stored_as[SUBJECT_ROOM]; /* what the stream makes of it */
    char stream[256];
    bool keeps_last; /* only the last of a subject counts there: a value, not an event */
};

/* 0, or an error: ERR_NO_STREAM, ERR_INVALID (a transform that cannot be undone)... */
int target_find(struct targets *targets, const struct letter *letter, struct target *target,
                struct err *err);

/* Is it still the message that counts? 0: *expected is the last sequence of its subject, to be
 * stated when it is published. ERR_WRONG_SEQUENCE: a newer one has superseded it. ERR_NOT_FOUND: it
 * is a delete marker, and nothing of its subject is left. id: its message id, now or in an earlier
 * run. */
int target_check(struct targets *targets, const struct target *target, const struct letter *letter,
                 const struct stored_message *stored, const char *id, uint64_t *expected,
                 struct err *err);

/* Is it a state of its subject, whatever the stream? */
bool target_is_state(const struct stored_message *stored);

#endif
