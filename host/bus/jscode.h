/* jscode - what the errors of JetStream mean to us: one table of its err_codes (nats-server,
 * server/errors.json), for answers of the API and for PubAcks.
 *
 * Pure; any thread. */
#ifndef MOONBUS_BUS_JSCODE_H
#define MOONBUS_BUS_JSCODE_H

/* A request names another stream than its subject. */
#define JSCODE_OTHER_NAME 10056
/* Somebody else was faster. */
#define JSCODE_STREAM_EXISTS 10058
#define JSCODE_CONSUMER_EXISTS 10148

enum jscode {
    JSCODE_REFUSED,   /* about this request: it would be refused again */
    JSCODE_UNKNOWN,   /* not in the table, and a fault of the server (5xx): nobody knows */
    JSCODE_PASSES,    /* a state of the servers: no leader, no quorum, no room for now */
    JSCODE_OFF,       /* JetStream is not enabled, for the server or for the account */
    JSCODE_ABSENT,    /* there is no such stream, consumer or message */
    JSCODE_EXPECTED,  /* what the publisher expects of the stream is not so */
    JSCODE_TOO_LARGE, /* the message */
};

/* http: the "code" of the error, err_code: JetStream's own; 0 for none. */
enum jscode jscode_meaning(int http, int err_code);

/* What a publisher can do about a refusal, where the server's words do not tell; or NULL. */
const char *jscode_remedy(int err_code);

#endif
