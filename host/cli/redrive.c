/* redrive - moonbus redrive: puts dead letters back to where they came from.
 *
 * One letter after the other, in this order: it is read, published to its original subject, stored
 * there, and only then deleted. Its message id is made from its place in the dead-letter stream, so
 * whoever was interrupted in between, or does the same at the same time, is answered `duplicate`.
 * That alone proves nothing (a stream may have lost what it remembers the id of): what was stored
 * under the id is read and compared before a letter is deleted for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/value.h"
#include "cli/jetstream.h"

#define COUNT_MOST 1000000000L

struct redrive {
    struct client client;
    struct jetstream js;
    const char *stream, *filter; /* argv's; filter: NULL for all */
    bool dry_run;
    long most; /* 0: all */
    char created[64];
    uint64_t last;                    /* what comes later has died anew: not again in this run */
    char subject[256], taken_by[256]; /* the last answer to: which stream takes it? */
    long tried, back, kept, skipped;
};

/* How it ended for one letter. */
enum outcome { PUT_BACK, KEPT, RUN_ENDS };

/* ---- what is printed ---- */

/* One line for a message. False: nobody reads any more. */
static bool print_line(uint64_t sequence, const char *subject, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool print_line(uint64_t sequence, const char *subject, const char *format, ...)
{
    struct text plain, line;
    va_list args;
    text_init(&plain);
    text_init(&line);
    text_printf(&plain, "%llu %s -> ", (unsigned long long)sequence, subject ? subject : "?");
    va_start(args, format);
    text_vprintf(&plain, format, args);
    va_end(args);
    text_escape(&line, plain.bytes, plain.len);
    text_puts(&line, "\n");
    fwrite(line.bytes, 1, line.len, stdout);
    text_clear(&plain);
    text_clear(&line);
    return fflush(stdout) == 0;
}

static void print_summary(const struct redrive *redrive)
{
    const char *would = redrive->dry_run ? "would be " : "";
    printf("%ld %sput back", redrive->back, would);
    if (redrive->kept)
        printf(", %ld %skept", redrive->kept, would);
    if (redrive->skipped)
        printf(", %ld skipped: no dead letter%s", redrive->skipped,
               redrive->skipped > 1 ? "s" : "");
    printf("\n");
    fflush(stdout);
}

static bool print_kept(const struct redrive *redrive, uint64_t sequence, const char *subject,
                       const struct err *err)
{
    return print_line(sequence, subject, "%s: %s: %s", redrive->dry_run ? "would be kept" : "kept",
                      err_name(err->code), err->message);
}

/* ---- one letter ---- */

/* What is published in its place. data: of the letter, or of the original that it refers to. */
struct journey {
    const struct stored *stored; /* the letter, borrowed */
    struct letter letter;
    struct stored original; /* where the letter is a reference only */
    struct headers headers;
    char id[400];
};

static int fetch_original(struct redrive *redrive, struct journey *journey, struct err *err)
{
    const struct letter *letter = &journey->letter;
    int code = jetstream_read(&redrive->js, letter->stream, letter->sequence, false,
                              &journey->original, err);
    if (code == 0)
        code = letter_restore_original(letter, &journey->original, &journey->headers, err);
    if (code == ERR_NOT_FOUND) {
        char why[sizeof err->message];
        snprintf(why, sizeof why, "%s", err->message);
        err_set(err, ERR_NOT_FOUND,
                "only a reference to stream %s, sequence %llu, where the original is no longer: %s",
                letter->stream, (unsigned long long)letter->sequence, why);
    }
    return code;
}

static int pack(struct redrive *redrive, struct journey *journey, struct err *err)
{
    int code = journey->letter.reference ? fetch_original(redrive, journey, err)
                                         : letter_restore(journey->stored, &journey->headers, err);
    snprintf(journey->id, sizeof journey->id, "%s:%s:%llu", redrive->stream, redrive->created,
             (unsigned long long)journey->stored->sequence);
    if (code == 0)
        code = headers_add(&journey->headers, "Nats-Msg-Id", journey->id, strlen(journey->id), err);
    return code;
}

static const struct stored *content(const struct journey *journey)
{
    return journey->letter.reference ? &journey->original : journey->stored;
}

/* Asked before anything is published: who else listens to the subject would hear it, too. */
static int find_stream(struct redrive *redrive, const char *subject, struct err *err)
{
    if (strcmp(redrive->subject, subject) == 0)
        return 0;
    int found = jetstream_stream_of(&redrive->js, subject, redrive->taken_by,
                                    sizeof redrive->taken_by, err);
    if (found == 0)
        return err_set(err, ERR_NO_STREAM,
                       "no stream takes \"%s\"; a handler can declare one: js.stream { name = "
                       "..., subjects = { \"%s\" } }",
                       subject, subject);
    snprintf(redrive->subject, sizeof redrive->subject, "%s", found > 0 ? subject : "");
    return found > 0 ? 0 : found;
}

/* Is what the receipt tells of this very letter? */
static int check_duplicate(struct redrive *redrive, const struct journey *journey,
                           const struct receipt *receipt, unsigned tries, struct err *err)
{
    struct stored there;
    struct err read;
    int code =
        jetstream_read(&redrive->js, receipt->stream, receipt->sequence, false, &there, &read);
    const char *id = headers_get(&there.headers, "Nats-Msg-Id");
    const struct stored *ours = content(journey);
    bool same = code == 0 && id && strcmp(id, journey->id) == 0 && there.len == ours->len &&
                memcmp(there.data, ours->data, ours->len) == 0;
    stored_clear(&there);
    if (same || (code && tries > 1)) /* gone, but the duplicate answers our own retry */
        return 0;
    return err_set(err, ERR_API,
                   "stream %s answers \"duplicate\" of its sequence %llu, %s%s; look there, then "
                   "delete this letter, or redrive it once more after the duplicate window",
                   receipt->stream, (unsigned long long)receipt->sequence,
                   code ? "which cannot be compared: " : "which is another message",
                   code ? read.message : "");
}

static bool is_gone(struct redrive *redrive, uint64_t sequence)
{
    struct stored there;
    struct err err;
    int code = jetstream_read(&redrive->js, redrive->stream, sequence, false, &there, &err);
    stored_clear(&there);
    return code == ERR_NOT_FOUND;
}

/* 0 also where someone else was faster, or our own first try was. */
static int delete_letter(struct redrive *redrive, uint64_t sequence, struct err *err)
{
    char operation[300];
    cJSON *body = cJSON_CreateObject();
    cJSON_AddNumberToObject(body, "seq", (double)sequence);
    cJSON_AddTrueToObject(body, "no_erase");
    snprintf(operation, sizeof operation, "STREAM.MSG.DELETE.%s", redrive->stream);
    cJSON *reply = jetstream_call(&redrive->js, operation, body, NULL, err);
    bool done = reply != NULL;
    cJSON_Delete(reply);
    cJSON_Delete(body);
    /* What a server says of a sequence that is gone differs, even from itself before a restart. */
    if (!done && (err->code == ERR_API || err->code == ERR_NOT_FOUND))
        done = is_gone(redrive, sequence);
    return done ? 0 : (int)err->code;
}

/* Not this letter's fault: it would be the same for the next. */
static bool ends_run(int code)
{
    return code == ERR_TIMEOUT || code == ERR_DISCONNECTED || code == ERR_CLOSED ||
           code == ERR_NO_RESPONDERS || code == ERR_MEMORY;
}

static enum outcome keep(const struct redrive *redrive, const struct journey *journey,
                         const struct err *err)
{
    bool read = print_kept(redrive, journey->stored->sequence, journey->letter.subject, err);
    return !read || ends_run(err->code) ? RUN_ENDS : KEPT;
}

static enum outcome publish(struct redrive *redrive, const struct journey *journey)
{
    const struct jetstream_message message = {.subject = journey->letter.subject,
                                              .headers = &journey->headers,
                                              .data = content(journey)->data,
                                              .len = content(journey)->len};
    uint64_t sequence = journey->stored->sequence;
    struct receipt receipt = {0};
    unsigned tries;
    struct err err = {0};
    int code = jetstream_publish(&redrive->js, &message, &receipt, &tries, &err);
    if (code == 0 && receipt.duplicate)
        code = check_duplicate(redrive, journey, &receipt, tries, &err);
    if (code)
        return keep(redrive, journey, &err);
    const char *earlier = receipt.duplicate && tries == 1 ? " by an earlier redrive" : "";
    unsigned long long place = receipt.sequence;
    if (delete_letter(redrive, sequence, &err) != 0) {
        print_line(sequence, message.subject,
                   "stored in %s, sequence %llu%s, but not deleted from %s: %s: %s", receipt.stream,
                   place, earlier, redrive->stream, err_name(err.code), err.message);
        return RUN_ENDS;
    }
    bool read = print_line(sequence, message.subject, "stored in %s, sequence %llu%s",
                           receipt.stream, place, earlier);
    redrive->back++;
    return read ? PUT_BACK : RUN_ENDS;
}

static enum outcome put_back(struct redrive *redrive, struct journey *journey)
{
    struct err err = {0};
    int code = pack(redrive, journey, &err);
    if (code == 0)
        code = find_stream(redrive, journey->letter.subject, &err);
    if (code)
        return keep(redrive, journey, &err);
    if (!redrive->dry_run)
        return publish(redrive, journey);
    redrive->back++;
    bool read = print_line(journey->stored->sequence, journey->letter.subject,
                           "would be stored in %s", redrive->taken_by);
    return read ? PUT_BACK : RUN_ENDS;
}

/* ---- the stream ---- */

static bool matches(const char *filter, const char *subject)
{
    return !filter || (subject && subject_matches(filter, subject));
}

/* A message of the stream, whatever it is. False: the run ends. */
static bool take(struct redrive *redrive, const struct stored *stored, int read, struct err *err)
{
    struct journey journey = {.stored = stored};
    const char *filter = redrive->filter;
    int is_letter = read ? read : letter_read(stored, &journey.letter, err);
    if (!matches(filter, stored->subject) &&
        !(is_letter > 0 && matches(filter, journey.letter.subject)))
        return true;
    if (is_letter == 0) {
        redrive->skipped++;
        return true;
    }
    redrive->tried++;
    enum outcome outcome = KEPT;
    if (is_letter > 0)
        outcome = put_back(redrive, &journey);
    else if (!print_kept(redrive, stored->sequence, stored->subject, err))
        outcome = RUN_ENDS;
    headers_clear(&journey.headers);
    stored_clear(&journey.original);
    redrive->kept = redrive->tried - redrive->back;
    return outcome != RUN_ENDS;
}

/* Until the end, enough, or what no further letter can mend. CLI_OK: it came to an end. */
static int walk(struct redrive *redrive, uint64_t sequence)
{
    bool on = true;
    while (on && sequence <= redrive->last && (!redrive->most || redrive->tried < redrive->most)) {
        struct stored stored;
        struct err err = {0};
        if (jetstream_stopped(&redrive->js))
            break;
        int read = jetstream_read(&redrive->js, redrive->stream, sequence, true, &stored, &err);
        sequence = stored.sequence + 1;
        if (stored.sequence && stored.sequence <= redrive->last)
            on = take(redrive, &stored, read, &err);
        bool any = stored.sequence != 0;
        stored_clear(&stored);
        if (!any)
            return read == ERR_NOT_FOUND
                       ? CLI_OK
                       : client_failed(&redrive->client, "%s: %s", err_name(read), err.message);
    }
    if (redrive->js.stopped)
        return client_failed(&redrive->client, "stopped by a signal");
    return on ? CLI_OK : client_failed(&redrive->client, "stopped before the end");
}

static uint64_t number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (uint64_t)item->valuedouble : 0;
}

/* CLI_OK, or said. */
static int look_at_stream(struct redrive *redrive, uint64_t *first)
{
    char operation[300];
    struct err err;
    snprintf(operation, sizeof operation, "STREAM.INFO.%s", redrive->stream);
    cJSON *info = jetstream_call(&redrive->js, operation, NULL, NULL, &err);
    if (!info && err.code == ERR_NO_RESPONDERS)
        return client_failed(&redrive->client,
                             "%s: is JetStream enabled on the server and for "
                             "this account?",
                             err.message);
    if (!info)
        return client_failed(&redrive->client, "stream \"%s\": %s: %s", redrive->stream,
                             err_name(err.code), err.message);
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(info, "config");
    const cJSON *state = cJSON_GetObjectItemCaseSensitive(info, "state");
    const char *created = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, "created"));
    bool fixed = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(config, "deny_delete"));
    snprintf(redrive->created, sizeof redrive->created, "%s", created ? created : "");
    *first = number_of(state, "first_seq");
    *first += *first == 0;
    redrive->last = number_of(state, "last_seq");
    cJSON_Delete(info);
    if (fixed && !redrive->dry_run)
        return client_failed(&redrive->client,
                             "stream \"%s\" has deny_delete: what is put back could not be taken "
                             "out of it, and would be put back again the next time",
                             redrive->stream);
    return CLI_OK;
}

static int run(struct redrive *redrive)
{
    uint64_t first = 0;
    int status = look_at_stream(redrive, &first);
    if (status)
        return status;
    status = walk(redrive, first);
    print_summary(redrive);
    if (redrive->kept && !status)
        return client_failed(&redrive->client, "%ld of %ld dead letters %s kept in %s",
                             redrive->kept, redrive->tried, redrive->dry_run ? "would be" : "were",
                             redrive->stream);
    return status;
}

static int check_usage(struct redrive *redrive, const struct cli *cli)
{
    struct err err;
    redrive->stream = cli->args[0];
    redrive->filter = cli->subject;
    redrive->dry_run = cli->dry_run;
    if (name_check("stream name", redrive->stream, strlen(redrive->stream), &err) != 0)
        return cli_usage(cli, "%s", err.message);
    if (cli->count && (redrive->most = cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    if (cli->subject &&
        subject_check(cli->subject, strlen(cli->subject), SUBJECT_SUBSCRIBE, &err) != 0)
        return cli_usage(cli, "--subject: %s", err.message);
    return CLI_OK;
}

int cli_redrive(struct cli *cli)
{
    struct redrive redrive = {0};
    int status = check_usage(&redrive, cli);
    if (status)
        return status;
    status = client_open(&redrive.client, cli, true);
    if (!status)
        status = jetstream_open(&redrive.js, &redrive.client);
    if (!status)
        status = run(&redrive);
    jetstream_close(&redrive.js);
    client_close(&redrive.client);
    return status;
}
