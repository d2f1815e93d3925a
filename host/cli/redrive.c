/* redrive - moonbus redrive: puts dead letters back to where they came from.
 *
 * One letter after the other, in this order: it is read, published to its original subject, stored
 * there, and only then deleted. Its message id is made from its place in the dead-letter stream, so
 * whoever was interrupted in between, or does the same at the same time, is answered `duplicate`.
 * That alone proves nothing (a stream may have lost what it remembers the id of): what was stored
 * under the id is read and compared before a letter is deleted for it. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "base/value.h"
#include "cli/print.h"
#include "cli/redrive_target.h"

#define COUNT_MOST 1000000000L

struct redrive {
    struct client client;
    struct jetstream js;
    struct targets targets;
    const char *stream, *filter; /* argv's; filter: NULL for all */
    bool dry_run, force;
    long most; /* 0: all */
    char created[64];
    uint64_t last; /* a letter that comes later has failed again: not in this run */
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

/* " (no_responders: nobody serves ..., attempt 5 of ORDERS/billing)": why it is here, which a dry
 * run shows of each letter. */
static void put_reason(struct text *out, const struct redrive *redrive, const struct letter *letter)
{
    text_init(out);
    if (!redrive->dry_run || !letter->subject)
        return;
    text_puts(out, " (");
    print_reason(out, letter);
    text_puts(out, ")");
}

static bool print_kept(const struct redrive *redrive, uint64_t sequence, const char *subject,
                       const struct letter *letter, const struct err *err)
{
    struct text reason;
    put_reason(&reason, redrive, letter);
    bool read =
        print_line(sequence, subject, "%s: %s: %s%.*s", redrive->dry_run ? "would be kept" : "kept",
                   err_name(err->code), err->message, (int)reason.len, reason.bytes);
    text_clear(&reason);
    return read;
}

/* ---- one letter ---- */

/* What is published in its place. data: of the letter, or of the original that it refers to. */
struct journey {
    const struct stored_message *stored; /* the letter, borrowed */
    struct letter letter;
    struct stored_message original; /* where the letter is a reference only */
    struct headers headers;
    char id[400];
    struct target target;
};

static int fetch_original(struct redrive *redrive, struct journey *journey, struct err *err)
{
    const struct letter *letter = &journey->letter;
    int code = jetstream_read(&redrive->js, letter->stream, letter->sequence, NULL,
                              &journey->original, err);
    if (code == 0)
        code = letter_restore_original(letter, &journey->original, &journey->headers, err);
    if (code == ERR_NOT_FOUND) {
        char why[sizeof err->message];
        snprintf(why, sizeof why, "%s", err->message);
        err_set(err, ERR_NOT_FOUND,
                "it is only a reference to stream %s, sequence %llu, and the original is gone: %s",
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

static const struct stored_message *content(const struct journey *journey)
{
    return journey->letter.reference ? &journey->original : journey->stored;
}

/* Where only the last message of a subject counts, an older one comes back only in its own place;
 * that nothing newer comes in between is the server's to see. */
static int expect_place(struct redrive *redrive, struct journey *journey, struct err *err)
{
    uint64_t expected;
    char text[32];
    if (redrive->force || !(journey->target.keeps_last || target_is_state(content(journey)) ||
                            target_is_state(journey->stored)))
        return 0;
    int code = target_check(&redrive->targets, &journey->target, &journey->letter, journey->stored,
                            journey->id, &expected, err);
    if (code)
        return code;
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)expected);
    return headers_add(&journey->headers, "Nats-Expected-Last-Subject-Sequence", text, (size_t)len,
                       err);
}

/* Is the message that the receipt names made from this very letter? */
static int check_duplicate(struct redrive *redrive, const struct journey *journey,
                           const struct receipt *receipt, unsigned tries, struct err *err)
{
    struct stored_message there;
    struct err read;
    int code =
        jetstream_read(&redrive->js, receipt->stream, receipt->sequence, NULL, &there, &read);
    struct span id = headers_get(&there.headers, "Nats-Msg-Id");
    const struct stored_message *ours = content(journey);
    bool same = code == 0 && span_equals(id, journey->id) && there.len == ours->len &&
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
    struct stored_message there;
    struct err err;
    int code = jetstream_read(&redrive->js, redrive->stream, sequence, NULL, &there, &err);
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
    bool read = print_kept(redrive, journey->stored->sequence, journey->letter.subject,
                           &journey->letter, err);
    return !read || ends_run(err->code) ? RUN_ENDS : KEPT;
}

static enum outcome publish(struct redrive *redrive, const struct journey *journey)
{
    const struct outgoing message = {.subject = journey->target.subject,
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
    if (code == ERR_WRONG_SEQUENCE)
        err_prefix(&err, "superseded meanwhile; --force puts it back");
    if (code)
        return keep(redrive, journey, &err);
    const char *earlier = receipt.duplicate && tries == 1 ? " by an earlier redrive" : "";
    unsigned long long place = receipt.sequence;
    if (delete_letter(redrive, sequence, &err) != 0) {
        print_line(sequence, journey->letter.subject,
                   "stored in %s, sequence %llu%s, but not deleted from %s: %s: %s", receipt.stream,
                   place, earlier, redrive->stream, err_name(err.code), err.message);
        return RUN_ENDS;
    }
    bool read = print_line(sequence, journey->letter.subject, "stored in %s, sequence %llu%s",
                           receipt.stream, place, earlier);
    redrive->back++;
    return read ? PUT_BACK : RUN_ENDS;
}

static bool print_plan(const struct redrive *redrive, const struct journey *journey)
{
    struct text reason;
    put_reason(&reason, redrive, &journey->letter);
    bool read =
        print_line(journey->stored->sequence, journey->letter.subject, "would be stored in %s%.*s",
                   journey->target.stream, (int)reason.len, reason.bytes);
    text_clear(&reason);
    return read;
}

static enum outcome put_back(struct redrive *redrive, struct journey *journey)
{
    struct err err = {0};
    int code = pack(redrive, journey, &err);
    if (code == 0)
        code = target_find(&redrive->targets, &journey->letter, &journey->target, &err);
    if (code == 0)
        code = expect_place(redrive, journey, &err);
    if (code)
        return keep(redrive, journey, &err);
    if (!redrive->dry_run)
        return publish(redrive, journey);
    redrive->back++;
    return print_plan(redrive, journey) ? PUT_BACK : RUN_ENDS;
}

/* ---- the stream ---- */

static bool matches(const char *filter, const char *subject)
{
    return !filter || (subject && subject_matches(filter, subject));
}

/* As letter_read. read: what reading it gave. One with a header that cannot be sent is a letter
 * that has to be kept, or any other message. */
static int recognize(const struct stored_message *stored, int read, struct letter *letter,
                     struct err *err)
{
    struct err ignored;
    if (read == 0)
        return letter_read(stored, letter, err);
    return read == ERR_INVALID && letter_read(stored, letter, &ignored) == 0 ? 0 : read;
}

/* A message of the stream, whatever it is. False: the run ends. */
static bool take(struct redrive *redrive, const struct stored_message *stored, int read,
                 struct err *err)
{
    struct journey journey = {.stored = stored};
    const char *filter = redrive->filter;
    int is_letter = recognize(stored, read, &journey.letter, err);
    if (!matches(filter, stored->subject) &&
        !(is_letter > 0 && matches(filter, journey.letter.subject))) {
        letter_clear(&journey.letter);
        return true;
    }
    if (is_letter == 0) {
        redrive->skipped++;
        return true;
    }
    redrive->tried++;
    enum outcome outcome = KEPT;
    if (is_letter > 0)
        outcome = put_back(redrive, &journey);
    else if (!print_kept(redrive, stored->sequence, stored->subject, &journey.letter, err))
        outcome = RUN_ENDS;
    letter_clear(&journey.letter);
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
        struct stored_message stored;
        struct err err = {0};
        if (jetstream_stopped(&redrive->js))
            break;
        int read = jetstream_read(&redrive->js, redrive->stream, sequence, ">", &stored, &err);
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
    if (!info && err.code == ERR_NOT_FOUND)
        return jetstream_no_stream(&redrive->js, redrive->stream);
    if (!info)
        return client_failed(&redrive->client, "stream \"%s\": %s: %s", redrive->stream,
                             err_name(err.code), err.message);
    const cJSON *config = json_field(info, "config");
    const cJSON *state = json_field(info, "state");
    const char *created = json_text_or(info, "created", "");
    bool fixed = json_true(config, "deny_delete");
    snprintf(redrive->created, sizeof redrive->created, "%s", created);
    *first = json_unsigned(state, "first_seq", 0);
    *first += *first == 0;
    redrive->last = json_unsigned(state, "last_seq", 0);
    cJSON_Delete(info);
    if (fixed && !redrive->dry_run)
        return client_failed(&redrive->client,
                             "stream \"%s\" has deny_delete: what is put back could not be taken "
                             "out of it, and would be put back again the next time",
                             redrive->stream);
    return CLI_OK;
}

static int run_redrive(struct redrive *redrive)
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
    redrive->force = cli->force;
    redrive->targets.js = &redrive->js;
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
        status = run_redrive(&redrive);
    targets_clear(&redrive.targets);
    jetstream_close(&redrive.js);
    client_close(&redrive.client);
    return status;
}
