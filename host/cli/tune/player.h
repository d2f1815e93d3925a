/* player - plays messages into the private server at a rate, on a thread of its own, whatever the
 * handlers make of them: what comes from outside does not wait for them either. Each message is
 * confirmed by its stream; so many are on their way that a confirmation costs no time.
 *
 *   the main thread: player_start ─▶ player_count ... ─▶ player_halt ─▶ player_count ─▶ player_stop
 */
#ifndef MOONBUS_CLI_TUNE_PLAYER_H
#define MOONBUS_CLI_TUNE_PLAYER_H

#include <nats/nats.h>
#include <stdint.h>

#include "base/err.h"

struct cJSON;
struct player;
struct tune_messages;

#define PLAYER_HANDLERS_MOST 32

struct player_options {
    natsConnection *nc; /* all of it borrowed until player_stop */
    const struct tune_messages *messages;
    const struct cJSON *handlers; /* of the stream: who takes what; at most PLAYER_HANDLERS_MOST */
    double rate;                  /* messages in a second */
};

/* NULL with err. */
struct player *player_start(const struct player_options *options, struct err *err);

/* How many were sent for handler i, of those in options->handlers. */
uint64_t player_count(const struct player *player, int i);

/* Sends no more from here on. Once, before player_stop. */
void player_halt(struct player *player);

/* What came of it. */
struct player_end {
    uint64_t sent, stored, refused;
    double seconds;
    char refusal[256]; /* the first one; "" */
    /* Why it could not send as many as wanted, if it could not. */
    const char *limit;
};

/* Waits a moment for confirmations that are under way, and frees it. */
void player_stop(struct player *player, struct player_end *end);

#endif
