/* What nats.c tells of a connection, on its one thread for that, in order. */
#include <stdio.h>
#include <string.h>

#include "bus/link/nats_reason.h"
#include "bus/link/nats_session.h"

/* --- what becomes of it --- */

static void on_disconnected(natsConnection *nc, void *closure)
{
    struct nats_transport *nats = closure;
    (void)nc;
    nats_set_returning(nats, true);
    nats->events.on_lost(nats->events.owner);
}

/* Another server of the cluster took over. */
static void on_reconnected(natsConnection *nc, void *closure)
{
    struct nats_transport *nats = closure;
    nats_set_returning(nats, false);
    nats_watch_close_on_exec(nc);
    nats_note_connected(nats, nc);
    nats->events.on_back(nats->events.owner);
}

/* There is no other one: nats.c would wait before it tries them again. */
static int64_t on_reconnect_delay(natsConnection *nc, int attempts, void *closure)
{
    struct nats_transport *nats = closure;
    (void)nc;
    (void)attempts;
    nats_set_returning(nats, false);
    nats->events.on_gone(nats->events.owner);
    return NATS_UNTIL_TAKEN_OVER_MS;
}

/* The last call: who is told may free it. */
static void on_closed(natsConnection *nc, void *closure)
{
    struct nats_transport *nats = closure;
    (void)nc;
    nats_set_returning(nats, false);
    nats->events.on_closed(nats->events.owner);
}

/* --- complaints --- */

/* The quoted text at or after `at`, to buf. *rest: behind it; NULL: its end is missing. False:
 * none. */
static bool quoted(const char *at, char *buf, size_t size, const char **rest)
{
    const char *from = strchr(at, '"');
    if (!from)
        return false;
    size_t len = strcspn(from + 1, "\"");
    *rest = from[1 + len] ? from + 2 + len : NULL;
    snprintf(buf, size, "%.*s", (int)len, from + 1);
    return true;
}

/* nats.c cuts the sentence at 255 bytes: the subject may be only the beginning of one. */
void nats_tell_refusal(const struct transport_events *events, const char *text)
{
    static const char prefix[] = "Permissions Violation for ";
    char subject[256], queue[256];
    struct transport_refusal refusal = {.text = text};
    const char *at = strcasestr(text, prefix), *rest = NULL;
    if (at) {
        at += sizeof prefix - 1;
        refusal.publish = strncasecmp(at, "Publish", 7) == 0;
        refusal.subject = quoted(at, subject, sizeof subject, &rest) ? subject : NULL;
        refusal.cut = refusal.subject && !rest;
    }
    if (rest && strcasestr(rest, "using queue") && quoted(rest, queue, sizeof queue, &rest))
        refusal.queue = queue;
    events->on_refused(events->owner, &refusal);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    struct nats_transport *nats = closure;
    char text[256];
    (void)nc;
    (void)sub;
    /* nats.c hands the text over as this thread's last error; that of the connection may be
     * another one by now. */
    snprintf(text, sizeof text, "%s", nats_reason(status));
    if (strcasestr(text, "permissions violation"))
        nats_tell_refusal(&nats->events, text);
    else
        nats->events.on_error(nats->events.owner, text);
}

natsStatus nats_set_callbacks(struct nats_transport *nats, natsOptions *options)
{
    natsStatus status = natsOptions_SetDisconnectedCB(options, on_disconnected, nats);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectedCB(options, on_reconnected, nats);
    if (status == NATS_OK)
        status = natsOptions_SetClosedCB(options, on_closed, nats);
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(options, on_error, nats);
    if (status == NATS_OK)
        status = natsOptions_SetCustomReconnectDelay(options, on_reconnect_delay, nats);
    /* One thread for the messages of all links: what it calls is so never called twice at once. */
    if (status == NATS_OK)
        status = natsOptions_UseGlobalMessageDelivery(options, true);
    return status;
}
