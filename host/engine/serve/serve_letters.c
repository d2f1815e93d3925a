/* Before a handler is served: will its dead letters be kept, and by another than itself? */
#include <cjson/cJSON.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"
#include "bus/bus.h"
#include "engine/serve/serve.h"
#include "engine/version/registration.h"

/* Do the filters that the durable has on the server take the subject? Without any, all. */
static bool server_takes(const cJSON *info, const char *subject)
{
    const cJSON *config = json_field(info, "config"), *filter;
    const cJSON *several = json_field(config, "filter_subjects");
    const char *one = json_text_or(config, "filter_subject", "");
    bool takes = !*one && cJSON_GetArraySize(several) == 0;
    if (*one)
        takes = subject_matches(one, subject);
    cJSON_ArrayForEach(filter, several)
        takes |= cJSON_IsString(filter) && subject_matches(filter->valuestring, subject);
    return takes;
}

/* Would the durable be given its own dead letters? If it states no filter, one that is there on the
 * server keeps what it has. */
static bool takes_letters(struct bus *bus, const struct consumer_spec *consumer, const char *stream,
                          const char *subject, uint64_t deadline_ns)
{
    char operation[600];
    bool takes = false;
    if (strcmp(consumer->stream, stream) != 0)
        return false;
    for (int i = 0; i < consumer->filter_count; i++)
        takes |= subject_matches(consumer->filters[i], subject);
    if (consumer->filter_count > 0)
        return takes;
    jsapi_consumer("INFO", consumer->stream, consumer->durable, operation, sizeof operation);
    cJSON *info = jsapi_wait(bus->jsapi, operation, NULL, deadline_ns, NULL, NULL);
    takes = info ? server_takes(info, subject) : !consumer->bind;
    cJSON_Delete(info);
    return takes;
}

static int check_stream(struct bus *bus, const struct registration *registration,
                        const char *stream, const cJSON *info, uint64_t deadline_ns,
                        struct err *err)
{
    const char *subject = registration->dead_letter;
    if (takes_letters(bus, &registration->consumer, stream, subject, deadline_ns))
        return err_set(err, ERR_INVALID,
                       "dead letters to \"%s\" would come back to this durable, and what cannot be "
                       "processed would go round for ever: let another stream take them, or state "
                       "a filter that leaves them out",
                       subject);
    const cJSON *config = json_field(info, "config");
    if (json_true(config, "no_ack"))
        return err_set(err, ERR_NO_ACK,
                       "stream \"%s\" takes the dead_letter subject \"%s\", but confirms nothing "
                       "(no_ack), so that no letter would count as stored: let it confirm (nats "
                       "stream edit %s --ack), or choose another stream",
                       stream, subject, stream);
    outbox_learn(bus->outbox, info);
    return 0;
}

int serve_check_letters(struct bus *bus, const struct registration *registration,
                        uint64_t deadline_ns, struct err *err)
{
    const char *subject = registration->dead_letter;
    char stream[256];
    cJSON *info;
    int code = jsapi_stream_of(bus->jsapi, subject, stream, sizeof stream, deadline_ns, err);
    if (!code)
        return err_set(err, ERR_NO_STREAM,
                       "no stream takes the dead_letter subject \"%s\": declare one with "
                       "js.stream { name = ..., subjects = { \"%s\" } }",
                       subject, subject);
    if (code > 0 && (code = jsapi_stream_info(bus->jsapi, stream, &info, deadline_ns, err)) == 0) {
        code = check_stream(bus, registration, stream, info, deadline_ns, err);
        cJSON_Delete(info);
    }
    return code == ERR_PERMISSION ? 0 : code; /* not allowed to know */
}
