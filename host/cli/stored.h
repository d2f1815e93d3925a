/* stored - moonbus sub --stream: prints what lies in a stream, and what comes to it.
 *
 * Each message is read by itself, from the stream's leader (STREAM.MSG.GET). No consumer is made:
 * so there is nothing to clean up, nothing is acknowledged, and a work queue, which allows no
 * second consumer, and a stream by interest, which a consumer would keep messages in, can be looked
 * at, too. What comes later is found by asking the stream a few times a second. */
#ifndef MOONBUS_CLI_STORED_H
#define MOONBUS_CLI_STORED_H

#include "cli/connect.h"

/* Where it begins. */
enum stored_begin { STORED_ALL, STORED_LAST, STORED_NEW, STORED_SEQUENCE, STORED_SINCE };

struct stored_start {
    enum stored_begin begin;
    uint64_t sequence; /* SEQUENCE */
    int64_t since_ns;  /* SINCE: so long ago */
};

/* From --all, --last, --new, --start-sequence, --since. CLI_OK, or said. */
int stored_start_read(const struct cli *cli, struct stored_start *start);

/* client: opened as lasting. filter: of subjects; NULL: all. wanted: ends after so many, which it
 * waits for; 0: ends with the last message that was there at the beginning, unless cli->follow, or
 * begin is NEW. timeout_ns: ends after this time; 0: never. The exit status. */
int stored_print(struct client *client, const char *filter, const struct stored_start *start,
                 long wanted, int64_t timeout_ns);

#endif
