/* tune_private - what the files of tune share; nobody else includes it.
 *
 *   tune.c        options, the order of things, the report
 *   round.c       one round
 *   progress.c    the line on a terminal
 *   mind.c        which round, and what follows (lua/moonbus/tune.lua)
 *   server.c      the private nats-server
 *   trial_host.c  the host that is tested, from outside; trial_main.c from inside
 *   player.c      plays messages
 *   messages.c    what is played; template.c */
#ifndef MOONBUS_CLI_TUNE_TUNE_PRIVATE_H
#define MOONBUS_CLI_TUNE_TUNE_PRIVATE_H

#include <stdbool.h>

#include "cli/cli.h"
#include "cli/tune/messages.h"
#include "cli/tune/mind.h"
#include "cli/tune/server.h"
#include "cli/tune/trial_host.h"

struct cJSON;

struct tune {
    struct cli *cli;      /* borrowed */
    double rate;          /* 0: a ramp */
    double budget, bound; /* seconds: to play in all; that the 99th percentile may wait */
    struct cJSON *tries;  /* owned, as those below; settings to try; NULL: none */
    struct cJSON *found;  /* what the scripts register */
    struct cJSON *handlers, *subjects; /* of the stream */
    struct cJSON *streams;             /* to be made for each round */
    struct cJSON *copied;              /* settings of the stream that was copied from; NULL */
    struct tune_messages messages;
    struct mind *mind;
    struct tune_server server;
    struct trial_host host;
    double spent; /* seconds played so far */
    bool interrupted;
};

/* "moonbus tune: text" to standard error. Returns CLI_FAILED. */
int tune_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* owner: a struct tune. Has a signal come that is to end the test? */
bool tune_interrupted(void *owner);

/* Plays the round that the mind asks for. What was measured, the caller's; NULL, after it has said
 * why. */
struct cJSON *tune_play(struct tune *tune, const struct cJSON *asked);

/* A line on standard error, if that is a terminal: what is played, and how far the test is. */
void tune_progress(const struct tune *tune, const char *title, double rate, double seconds);
void tune_progress_clear(const struct tune *tune);

#endif
