/* stored - reads a stream from some place on, one message after the other. */
#include "cli/stored.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/value.h"
#include "cli/jetstream.h"
#include "cli/print.h"
#include "cli/say.h"

#define LOOK_NS (250 * NS_PER_MS) /* how often it is asked whether something has come */

struct stored_reader {
    struct client *client; /* borrowed */
    struct jetstream js;
    char stream[256];
    const char *filter; /* borrowed */
    long wanted, got;   /* wanted: 0 for no end */
    bool follows;       /* beyond what was there at the beginning */
    bool troubled;      /* the server does not answer, and that was said */

    char created[64];     /* of the stream: another time is another stream */
    uint64_t first, last; /* what it held when it was looked at last */
    uint64_t sequence;    /* the next one to be read */
};

/* How one step ended. */
enum stored_step { STEP_ON, STEP_END, STEP_BROKEN };

/* --- where it begins --- */

int stored_start_read(const struct cli *cli, struct stored_start *start)
{
    const char *name = cli->start, *value = cli->start_value;
    *start = (struct stored_start){.begin = STORED_ALL};
    if (!name || strcmp(name, "--all") == 0)
        return CLI_OK;
    if (strcmp(name, "--last") == 0)
        start->begin = STORED_LAST;
    else if (strcmp(name, "--new") == 0)
        start->begin = STORED_NEW;
    else if (strcmp(name, "--since") == 0) {
        start->begin = STORED_SINCE;
        start->since_ns = cli_duration(cli, name, value);
        return start->since_ns < 0 ? CLI_USAGE : CLI_OK;
    } else {
        long sequence = cli_number(cli, name, value, 1, INT64_C(1) << 53);
        start->begin = STORED_SEQUENCE;
        start->sequence = sequence > 0 ? (uint64_t)sequence : 0;
        return sequence < 0 ? CLI_USAGE : CLI_OK;
    }
    return CLI_OK;
}

/* --- the stream --- */

/* 0 and *anew: it was deleted and created again. ERR_NOT_FOUND: it is gone. */
static int look(struct stored_reader *reader, bool *anew, struct err *err)
{
    char operation[300];
    snprintf(operation, sizeof operation, "STREAM.INFO.%s", reader->stream);
    cJSON *info = jetstream_call(&reader->js, operation, NULL, NULL, err);
    if (!info)
        return err->code;
    const cJSON *state = json_field(info, "state");
    const char *created = json_text_or(info, "created", "");
    *anew = strcmp(created, reader->created) != 0;
    snprintf(reader->created, sizeof reader->created, "%s", created);
    reader->first = json_unsigned(state, "first_seq", 0);
    reader->last = json_unsigned(state, "last_seq", 0);
    cJSON_Delete(info);
    return 0;
}

static int print_failure(const struct stored_reader *reader, const struct err *err)
{
    if (err->code == ERR_NO_RESPONDERS)
        return client_failed(reader->client,
                             "%s: is JetStream enabled on the server and for this account?",
                             err->message);
    return client_failed(reader->client, "%s: %s", err_name(err->code), err->message);
}

/* The stream that takes the subject, where none is named. */
static int find_stream(struct stored_reader *reader)
{
    const char *named = reader->client->cli->stream;
    struct err err;
    snprintf(reader->stream, sizeof reader->stream, "%s", named ? named : "");
    if (named)
        return CLI_OK;
    int found = jetstream_stream_of(&reader->js, reader->filter, reader->stream,
                                    sizeof reader->stream, &err);
    if (found == 0)
        return client_failed(reader->client, "no_stream: no stream takes \"%s\"", reader->filter);
    return found < 0 || !*reader->stream ? print_failure(reader, &err) : CLI_OK;
}

static const char *any_or(const char *filter)
{
    return filter ? filter : ">";
}

/* The first sequence from `from` on that was stored at time_ns or later, by halves: times of a
 * stream grow with its sequences. */
static int find_time(struct stored_reader *reader, int64_t time_ns, struct err *err)
{
    uint64_t low = reader->first ? reader->first : 1, high = reader->last + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct stored_message stored;
        int code = jetstream_read(&reader->js, reader->stream, middle, ">", &stored, err);
        uint64_t sequence = stored.sequence;
        bool before = sequence && stored.timestamp_ns < time_ns;
        stored_clear(&stored);
        if (!sequence && code != ERR_NOT_FOUND)
            return code;
        if (before)
            low = sequence + 1;
        else
            high = middle;
    }
    reader->sequence = low;
    return 0;
}

static int find_last(struct stored_reader *reader, struct err *err)
{
    struct stored_message stored;
    int code = jetstream_last(&reader->js, reader->stream, any_or(reader->filter), &stored, err);
    reader->sequence = stored.sequence ? stored.sequence : reader->last + 1;
    if (stored.sequence > reader->last)
        reader->last = stored.sequence;
    bool found = stored.sequence != 0;
    stored_clear(&stored);
    return found || code == ERR_NOT_FOUND ? 0 : code;
}

static int find_place(struct stored_reader *reader, const struct stored_start *start,
                      struct err *err)
{
    struct timespec now;
    switch (start->begin) {
    case STORED_ALL:
        reader->sequence = reader->first ? reader->first : 1;
        return 0;
    case STORED_SEQUENCE:
        reader->sequence = start->sequence;
        return 0;
    case STORED_NEW:
        reader->sequence = reader->last + 1;
        return 0;
    case STORED_LAST:
        return find_last(reader, err);
    case STORED_SINCE:
        clock_gettime(CLOCK_REALTIME, &now);
        return find_time(reader, now.tv_sec * NS_PER_S + now.tv_nsec - start->since_ns, err);
    }
    return 0;
}

/* --- one message --- */

/* False: nobody reads any more. */
static bool print(struct stored_reader *reader, const struct stored_message *stored)
{
    const struct cli *cli = reader->client->cli;
    struct letter letter;
    struct err err;
    struct printed message = {.subject = stored->subject,
                              .data = stored->data,
                              .len = stored->len,
                              .time_ns = stored->timestamp_ns,
                              .stream = reader->stream,
                              .sequence = stored->sequence};
    struct header_field *fields = print_header_fields(&stored->headers, &message.field_count);
    message.fields = fields;
    message.letter = letter_read(stored, &letter, &err) == 1 ? &letter : NULL;
    if (cli->raw)
        print_data(message.data, message.len, reader->wanted == 1);
    else if (cli->json)
        print_json(&message);
    else
        print_plain(&message, true);
    free(fields);
    letter_clear(&letter);
    reader->got++;
    return fflush(stdout) == 0;
}

/* Something that waiting may mend. */
static bool may_pass(const struct err *err)
{
    return err->code == ERR_TIMEOUT || err->code == ERR_DISCONNECTED ||
           err->code == ERR_NO_RESPONDERS || err->code == ERR_API;
}

/* The server does not answer: whoever follows goes on trying. */
static enum stored_step wait_for_server(struct stored_reader *reader, const struct err *err)
{
    if (!reader->follows || !reader->js.answered || !may_pass(err) || reader->js.stopped) {
        if (!reader->js.stopped)
            print_failure(reader, err);
        return reader->js.stopped ? STEP_END : STEP_BROKEN;
    }
    if (!reader->troubled)
        say_note(reader->client->cli, "%s: trying again", err->message);
    reader->troubled = true;
    jetstream_pause(&reader->js, LOOK_NS);
    return STEP_ON;
}

/* Nothing lies from here on to the end that we know. */
static enum stored_step look_again(struct stored_reader *reader)
{
    struct err err = {0};
    bool anew = false;
    int code = look(reader, &anew, &err);
    if (code == ERR_NOT_FOUND) {
        client_failed(reader->client, "stream \"%s\" was deleted", reader->stream);
        return STEP_BROKEN;
    }
    if (code)
        return wait_for_server(reader, &err);
    reader->troubled = false;
    if (anew && reader->follows) {
        say_note(reader->client->cli,
                 "stream \"%s\" was deleted and created again: on from its beginning",
                 reader->stream);
        reader->sequence = 1;
    } else if (anew) {
        client_failed(reader->client, "stream \"%s\" was deleted and created again",
                      reader->stream);
        return STEP_BROKEN;
    }
    if (!reader->follows)
        return STEP_END;
    if (reader->last < reader->sequence)
        jetstream_pause(&reader->js, LOOK_NS);
    return STEP_ON;
}

static enum stored_step read_one(struct stored_reader *reader)
{
    struct stored_message stored;
    struct err err = {0};
    int code = jetstream_read(&reader->js, reader->stream, reader->sequence, any_or(reader->filter),
                              &stored, &err);
    bool readable = stored.data && (code == 0 || code == ERR_INVALID);
    bool beyond = !reader->follows && stored.sequence > reader->last;
    enum stored_step step = STEP_ON;
    if (stored.sequence) {
        reader->sequence = stored.sequence + 1;
        reader->troubled = false;
        if (readable && code)
            say_error(reader->client->cli, "#%llu: %s", (unsigned long long)stored.sequence,
                      err.message);
        else if (!readable)
            print_failure(reader, &err);
        if (beyond)
            reader->sequence = reader->last + 1;
        else if (readable && !print(reader, &stored))
            step = STEP_BROKEN;
    } else if (code == ERR_NOT_FOUND) {
        reader->sequence = reader->last + 1;
        step = look_again(reader);
    } else {
        step = wait_for_server(reader, &err);
    }
    stored_clear(&stored);
    return step;
}

/* --- all of them --- */

static bool is_late(const struct stored_reader *reader)
{
    return reader->js.deadline_ns && clock_now_ns() >= reader->js.deadline_ns;
}

static int read_all(struct stored_reader *reader)
{
    enum stored_step step = STEP_ON;
    while (step == STEP_ON && !is_late(reader) && !jetstream_stopped(&reader->js) &&
           (!reader->wanted || reader->got < reader->wanted)) {
        if (reader->sequence <= reader->last)
            step = read_one(reader);
        else if (reader->follows)
            step = look_again(reader);
        else
            step = STEP_END;
    }
    if (step == STEP_BROKEN)
        return CLI_FAILED;
    if (reader->got >= reader->wanted)
        return CLI_OK;
    return client_failed(reader->client, "%s: %ld of %ld messages came",
                         is_late(reader) ? "timeout" : "stopped", reader->got, reader->wanted);
}

static int begin_reading(struct stored_reader *reader, const struct stored_start *start)
{
    struct err err = {0};
    char server[256];
    bool anew;
    int status = find_stream(reader);
    if (status)
        return status;
    int code = look(reader, &anew, &err);
    if (code == ERR_NOT_FOUND)
        return jetstream_no_stream(&reader->js, reader->stream);
    if (code || find_place(reader, start, &err) != 0)
        return print_failure(reader, &err);
    say_note(reader->client->cli, "stream %s on %s, last sequence %llu", reader->stream,
             client_server(reader->client, server, sizeof server),
             (unsigned long long)reader->last);
    return read_all(reader);
}

int stored_print(struct client *client, const char *filter, const struct stored_start *start,
                 long wanted, int64_t timeout_ns)
{
    struct stored_reader reader = {
        .client = client,
        .filter = filter,
        .wanted = wanted,
        .follows = wanted || client->cli->follow || start->begin == STORED_NEW,
    };
    int status = jetstream_open(&reader.js, client);
    if (timeout_ns)
        reader.js.deadline_ns = clock_now_ns() + (uint64_t)timeout_ns;
    if (!status)
        status = begin_reading(&reader, start);
    jetstream_close(&reader.js);
    return status;
}
