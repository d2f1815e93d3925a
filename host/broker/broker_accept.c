/* Which settings of a consumer a server takes for a stream, besides those that are wrong anywhere.
 */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "broker/broker_private.h"

/* Is there a subject that both patterns take? */
bool broker_accept_overlap(const char *a, const char *b)
{
    for (;;) {
        size_t a_len = strcspn(a, "."), b_len = strcspn(b, ".");
        if (*a == '>' || *b == '>')
            return true;
        bool wild = *a == '*' || *b == '*';
        if (!wild && (a_len != b_len || memcmp(a, b, a_len) != 0))
            return false;
        a += a_len;
        b += b_len;
        if (*a == '\0' || *b == '\0')
            return *a == *b;
        a++;
        b++;
    }
}

static bool refuse_consumer(struct broker_error *error, int code, int err_code,
                            const char *description)
{
    *error = (struct broker_error){.code = code, .err_code = err_code};
    snprintf(error->description, sizeof error->description, "%s", description);
    return false;
}

/* --- a new one --- */

/* Does another consumer of a work queue get what this filter takes? */
static bool is_taken(const struct broker_stream *stream, const char *filter)
{
    const struct broker_consumer *consumer;
    LL_FOREACH(stream->consumers, consumer) {
        if (!consumer->filters[0])
            return true;
        for (char **other = consumer->filters; *other; other++) {
            if (broker_accept_overlap(*other, filter))
                return true;
        }
    }
    return false;
}

static bool check_work_queue(const struct broker_stream *stream, const cJSON *config,
                             struct broker_error *error)
{
    const char *filter = broker_json_text(config, "filter_subject");
    if (stream->settings.retention != RETENTION_WORKQUEUE)
        return true;
    if (stream->consumers && !*filter)
        return refuse_consumer(error, 400, 10099,
                               "multiple non-filtered consumers not allowed on workqueue stream");
    if (stream->consumers && is_taken(stream, filter))
        return refuse_consumer(error, 400, 10100,
                               "filtered consumer not unique on workqueue stream");
    if (strcmp(broker_json_text(config, "deliver_policy"), "all") != 0)
        return refuse_consumer(error, 400, 10101,
                               "consumer must be deliver all on workqueue stream");
    return true;
}

/* --- a change --- */

static bool same_text(const cJSON *a, const cJSON *b, const char *field)
{
    return strcmp(broker_json_text(a, field), broker_json_text(b, field)) == 0;
}

static bool same_number(const cJSON *a, const cJSON *b, const char *field)
{
    return broker_json_integer(a, field, 0) == broker_json_integer(b, field, 0);
}

static bool check_change(const cJSON *before, const cJSON *after, struct broker_error *error)
{
    if (!same_text(before, after, "deliver_policy"))
        return refuse_consumer(error, 500, 10012, "deliver policy can not be updated");
    if (!same_number(before, after, "opt_start_seq"))
        return refuse_consumer(error, 500, 10012, "start sequence can not be updated");
    if (!same_text(before, after, "opt_start_time"))
        return refuse_consumer(error, 500, 10012, "start time can not be updated");
    if (!same_text(before, after, "ack_policy"))
        return refuse_consumer(error, 500, 10012, "ack policy can not be updated");
    if (!same_text(before, after, "replay_policy"))
        return refuse_consumer(error, 500, 10012, "replay policy can not be updated");
    if (!same_number(before, after, "max_waiting"))
        return refuse_consumer(error, 500, 10012, "max waiting can not be updated");
    return true;
}

bool broker_accept_consumer(const struct broker_stream *stream,
                            const struct broker_consumer *present, const cJSON *config,
                            struct broker_error *error)
{
    return present ? check_change(present->config, config, error)
                   : check_work_queue(stream, config, error);
}
