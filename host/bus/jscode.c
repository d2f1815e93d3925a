/* The table of JetStream's error codes. */
#include "bus/jscode.h"

#include <stddef.h>

static const struct {
    int err_code;
    enum jscode meaning;
} table[] = {
    {10004, JSCODE_PASSES},    /* incomplete results: not every server has answered */
    {10005, JSCODE_PASSES},    /* no suitable peers for placement: servers are away */
    {10007, JSCODE_PASSES},    /* not assigned to this server: it has just come up */
    {10008, JSCODE_PASSES},    /* temporarily unavailable: the cluster has no leader */
    {10009, JSCODE_PASSES},    /* cannot handle the request: this server leads no longer */
    {10010, JSCODE_REFUSED},   /* clustering support required */
    {10023, JSCODE_PASSES},    /* insufficient resources */
    {10028, JSCODE_PASSES},    /* insufficient memory */
    {10035, JSCODE_PASSES},    /* account not found: not known to this server yet */
    {10036, JSCODE_REFUSED},   /* not supported in clustered mode */
    {10039, JSCODE_OFF},       /* not enabled for the account */
    {10041, JSCODE_PASSES},    /* raft: its group is not there, or closing */
    {10047, JSCODE_PASSES},    /* insufficient storage */
    {10054, JSCODE_TOO_LARGE}, /* message size exceeds maximum allowed */
    {10060, JSCODE_EXPECTED},  /* expected stream does not match */
    {10063, JSCODE_PASSES},    /* replicas disagree on the sequence, for now */
    {10070, JSCODE_EXPECTED},  /* wrong last msg ID */
    {10071, JSCODE_EXPECTED},  /* wrong last sequence: N */
    {10075, JSCODE_PASSES},    /* peer remap failed */
    {10076, JSCODE_OFF},       /* not enabled */
    {10097, JSCODE_TOO_LARGE}, /* header size exceeds maximum allowed of 64k */
    {10104, JSCODE_PASSES},    /* error creating store for consumer */
    {10109, JSCODE_REFUSED},   /* sealed */
    {10118, JSCODE_PASSES},    /* stream is offline */
    {10119, JSCODE_PASSES},    /* consumer is offline */
    {10124, JSCODE_PASSES},    /* stream move already in progress */
    {10158, JSCODE_PASSES},    /* the first message of this id is still being agreed on */
    {10163, JSCODE_PASSES},    /* expected last sequence per subject temporarily unavailable */
    {10164, JSCODE_EXPECTED},  /* wrong last sequence */
    {10167, JSCODE_PASSES},    /* too many requests */
    {10194, JSCODE_PASSES},    /* stream is offline, with a reason */
    {10195, JSCODE_PASSES},    /* consumer is offline, with a reason */
    {10202, JSCODE_PASSES},    /* cluster member change is in progress */
    {10226, JSCODE_PASSES},    /* stream reconfiguration already in progress */
};

/* Codes of later servers: 503 and 429 ask to come again. */
enum jscode jscode_meaning(int http, int err_code)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].err_code == err_code)
            return table[i].meaning;
    }
    if (http == 404)
        return JSCODE_ABSENT;
    if (http == 503 || http == 429)
        return JSCODE_PASSES;
    return http >= 500 ? JSCODE_UNKNOWN : JSCODE_REFUSED;
}

const char *jscode_remedy(int err_code)
{
    switch (err_code) {
    case 10065:
        return "`moonbus check --server URL` says which stream has them";
    case 10093:
        return "`moonbus check` says which subjects the stream takes";
    case 10166:
        return "a ttl needs a stream with allow_msg_ttl = true (js.stream)";
    case 10168:
        return "counting needs a stream with allow_msg_counter = true (js.stream), which has "
               "nothing but counters";
    case 10169:
        return "its stream has nothing but counters (allow_msg_counter): use js.count";
    default:
        return NULL;
    }
}
