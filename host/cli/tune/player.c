/* The thread that plays, and the confirmations of what it has sent. */
#include "cli/tune/player.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/library.h"
#include "bus/link/nats_fields.h"
#include "cli/tune/messages.h"

/* Between two looks at the time: so many messages of a rate are sent together. */
#define TICK_NS (NS_PER_MS)
/* On their way to the stream, at most. nats-server 2.9 takes 60,000 a second of one connection with
 * 1,000 of them, and no more with 10,000. */
#define UNDER_WAY_MOST 4096
#define LAST_ANSWERS_NS (2 * NS_PER_S)
#define DRAIN_MS 2000

struct player {
    struct player_options options;
    struct thread thread;
    natsInbox *inbox;      /* owned; where confirmations come */
    natsSubscription *sub; /* owned */
    atomic_bool over;      /* it is to end */
    uint64_t began_ns;     /* the player's thread, as the rest until it has ended */
    uint64_t ended_ns;
    uint64_t stalled_ns; /* how long too many were under way */
    atomic_uint_least64_t sent, stored, refused;
    atomic_uint_least64_t counts[PLAYER_HANDLERS_MOST];

    struct mutex lock; /* a leaf, for the text below */
    char refusal[256];
};

/* --- confirmations: nats.c's thread --- */

static void note_refusal(struct player *player, const char *data, size_t len)
{
    struct receipt receipt;
    struct err err = {0};
    int api_code;
    bool transient;
    mutex_lock(&player->lock);
    if (!*player->refusal) {
        wire_parse_puback(data, len, &receipt, &api_code, &transient, &err);
        snprintf(player->refusal, sizeof player->refusal, "%.200s",
                 len ? err.message : "no stream takes the subject");
    }
    mutex_unlock(&player->lock);
    atomic_fetch_add(&player->refused, 1);
}

/* A PubAck that tells no error names its stream. */
static void on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct player *player = closure;
    const char *data = natsMsg_GetData(msg);
    size_t len = (size_t)natsMsg_GetDataLength(msg);
    (void)nc;
    (void)sub;
    if (len > 0 && memmem(data, len, "\"error\"", 7) == NULL)
        atomic_fetch_add(&player->stored, 1);
    else
        note_refusal(player, data, len);
    natsMsg_Destroy(msg);
}

static uint64_t under_way(const struct player *player)
{
    return atomic_load(&player->sent) - atomic_load(&player->stored) -
           atomic_load(&player->refused);
}

/* --- playing --- */

static void count_for_handlers(struct player *player, const char *subject)
{
    const cJSON *handler;
    int i = 0;
    cJSON_ArrayForEach(handler, player->options.handlers) {
        if (i < PLAYER_HANDLERS_MOST && tune_handler_takes(handler, subject))
            atomic_fetch_add(&player->counts[i], 1);
        i++;
    }
}

/* False: it was not sent; the connection is gone for a moment. */
static bool send_one(struct player *player, uint64_t n)
{
    const struct tune_messages *messages = player->options.messages;
    const struct tune_message *message = &messages->list[(n - 1) % (uint64_t)messages->count];
    struct text subject, data;
    natsMsg *msg = NULL;
    text_init(&subject);
    text_init(&data);
    tune_template_fill(&message->subject, n, &subject);
    if (message->data.varies)
        tune_template_fill(&message->data, n, &data);
    const char *bytes = message->data.varies ? data.bytes : message->data.text;
    size_t len = message->data.varies ? data.len : message->len;
    natsStatus status = natsMsg_Create(&msg, subject.bytes, player->inbox, bytes, (int)len);
    if (status == NATS_OK) {
        nats_fields_add(msg, &message->headers);
        status = natsConnection_PublishMsg(player->options.nc, msg);
    }
    if (status == NATS_OK) {
        atomic_fetch_add(&player->sent, 1);
        count_for_handlers(player, subject.bytes);
    }
    natsMsg_Destroy(msg);
    text_clear(&data);
    text_clear(&subject);
    return status == NATS_OK;
}

/* Sends what is due; false: not all of it, for now. */
static bool send_due(struct player *player)
{
    double passed = (double)(clock_now_ns() - player->began_ns) / (double)NS_PER_S;
    uint64_t due = (uint64_t)(passed * player->options.rate) + 1;
    for (uint64_t sent = atomic_load(&player->sent); sent < due; sent++) {
        if (atomic_load(&player->over))
            return true;
        if (under_way(player) >= UNDER_WAY_MOST || !send_one(player, sent + 1))
            return false;
    }
    return true;
}

static void *player_run(void *arg)
{
    struct player *player = arg;
    player->began_ns = clock_now_ns();
    while (!atomic_load(&player->over)) {
        uint64_t now = clock_now_ns();
        bool all = send_due(player);
        thread_sleep_until(now + (uint64_t)TICK_NS);
        if (!all)
            player->stalled_ns += clock_now_ns() - now;
    }
    player->ended_ns = clock_now_ns();
    library_end_thread();
    return NULL;
}

/* --- its life --- */

static void player_free(struct player *player)
{
    natsSubscription_Destroy(player->sub);
    natsInbox_Destroy(player->inbox);
    mutex_destroy(&player->lock);
    free(player);
}

struct player *player_start(const struct player_options *options, struct err *err)
{
    struct player *player = calloc(1, sizeof *player);
    if (!player) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    mutex_init(&player->lock);
    player->options = *options;
    natsStatus status = natsInbox_Create(&player->inbox);
    if (status == NATS_OK)
        status =
            natsConnection_Subscribe(&player->sub, options->nc, player->inbox, on_answer, player);
    if (status == NATS_OK)
        status = natsSubscription_SetPendingLimits(player->sub, -1, -1);
    if (status != NATS_OK)
        err_set(err, ERR_DISCONNECTED, "%s", natsStatus_GetText(status));
    else if (thread_start(&player->thread, "player", player_run, player, err) == 0)
        return player;
    player_free(player);
    return NULL;
}

uint64_t player_count(const struct player *player, int i)
{
    return atomic_load(&((struct player *)player)->counts[i]);
}

void player_halt(struct player *player)
{
    atomic_store(&player->over, true);
    thread_join(player->thread);
}

void player_stop(struct player *player, struct player_end *end)
{
    *end = (struct player_end){0};
    uint64_t until_ns = clock_now_ns() + (uint64_t)LAST_ANSWERS_NS;
    while (under_way(player) > 0 && clock_now_ns() < until_ns)
        thread_sleep_until(clock_now_ns() + (uint64_t)TICK_NS);
    end->sent = atomic_load(&player->sent);
    end->stored = atomic_load(&player->stored);
    end->refused = atomic_load(&player->refused);
    end->seconds = (double)(player->ended_ns - player->began_ns) / (double)NS_PER_S;
    bool stalled = player->stalled_ns > (player->ended_ns - player->began_ns) / 10;
    end->limit = stalled ? "the server confirms no more in a second"
                         : "the player itself can send no more in a second, on this machine";
    mutex_lock(&player->lock);
    snprintf(end->refusal, sizeof end->refusal, "%s", player->refusal);
    mutex_unlock(&player->lock);
    /* Afterwards no thread of nats.c calls back; else it is left as it is. */
    natsSubscription_Drain(player->sub);
    if (natsSubscription_WaitForDrainCompletion(player->sub, DRAIN_MS) == NATS_OK)
        player_free(player);
}
