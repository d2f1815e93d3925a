/* Connecting: which server is tried next, when, and what is said of those that cannot be reached.
 * On the writer's thread.
 *
 * A transport may come back by itself to another server of the cluster, at once; where it would
 * begin to wait (on_gone) the writer takes over. Until then its subscriptions are open, so that
 * what had come before the loss is still delivered. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/link/link_private.h"
#include "bus/link/link_url.h"
#include "bus/retry.h"

/* --- the servers --- */

static int add_server(struct link *link, const char *url, bool found, struct err *err)
{
    int count = link->server_count;
    struct transport_server *grown = realloc(link->known, ((size_t)count + 1) * sizeof *grown);
    char *copy = strdup(url);
    if (grown)
        link->known = grown;
    if (!grown || !copy) {
        free(copy);
        return err_set(err, ERR_MEMORY, "out of memory");
    }
    struct link_url parts;
    int code = link_url_parse(copy, &parts, err);
    if (code) {
        free(copy);
        return code;
    }
    grown[count] = (struct transport_server){.url = copy, .found = found};
    link->server_count++;
    link->tls = link->tls || strcmp(parts.scheme, "tls") == 0;
    return 0;
}

/* In an order of its own, so that the hosts of a fleet do not all go to the same one. */
int link_servers_make(struct link *link, struct err *err)
{
    const struct link_options *options = link->options;
    int code = 0;
    for (int i = 0; i < options->server_count && !code; i++)
        code = add_server(link, options->servers[i], false, err);
    for (int i = link->server_count - 1; i > 0; i--) {
        int other = (int)(retry_random() * (i + 1));
        struct transport_server swap = link->known[i];
        link->known[i] = link->known[other];
        link->known[other] = swap;
    }
    return code;
}

void link_servers_free(struct link *link)
{
    for (int i = 0; i < link->server_count; i++)
        free(link->known[i].url);
    free(link->known);
}

static bool is_known(const struct link *link, const char *url)
{
    char shown[300], other[300];
    link_shown_server(url, shown, sizeof shown);
    for (int i = 0; i < link->server_count; i++) {
        if (strcmp(link_shown_server(link->known[i].url, other, sizeof other), shown) == 0)
            return true;
    }
    return false;
}

/* A server that the cluster announced is reached with the first login that is configured. */
static void add_found(struct link *link, const char *url)
{
    char full[1024];
    struct link_url own = {0}, parts;
    if (is_known(link, url) || link_url_parse(url, &parts, NULL) != 0)
        return;
    for (int i = 0; i < link->server_count && !own.userinfo_len; i++)
        link_url_parse(link->known[i].url, &own, NULL);
    snprintf(full, sizeof full, "%s://%.*s%s%.*s:%u", parts.scheme, (int)own.userinfo_len,
             own.userinfo_len ? own.userinfo : "", own.userinfo_len ? "@" : "", (int)parts.host_len,
             parts.host, parts.port);
    add_server(link, full, true, NULL);
}

/* Which servers the cluster has besides those that were configured. */
static void note_found(struct link *link)
{
    char **found = NULL;
    int count = 0, kept = 0;
    if (!link->transport->kind->find_servers(link->transport, &found, &count))
        return;
    for (int i = 0; i < link->server_count; i++) {
        if (link->known[i].found)
            free(link->known[i].url);
        else
            link->known[kept++] = link->known[i];
    }
    link->server_count = kept;
    for (int i = 0; i < count; i++) {
        add_found(link, found[i]);
        free(found[i]);
    }
    free(found);
}

/* --- one try --- */

/* False: server->reason says why. */
static bool try_server(struct link *link, struct transport_server *server)
{
    server->tls = server->tls || link->tls;
    mutex_lock(&link->lock);
    link->gone = link->fell = false; /* from here on it may be lost, though it is not up yet */
    mutex_unlock(&link->lock);
    link->connected = link->transport->kind->connect(link->transport, server);
    return link->connected;
}

/* --- why not --- */

/* What keeps us from each server; where it is the same for all, once. */
static void all_reasons(const struct link *link, char *buf, size_t size)
{
    const struct transport_server *known = link->known;
    bool same = true;
    size_t len = 0;
    for (int i = 1; i < link->server_count; i++)
        same = same && strcmp(known[i].reason, known[0].reason) == 0;
    if (same) {
        snprintf(buf, size, "%s: %s", link->servers, known[0].reason);
        return;
    }
    for (int i = 0; i < link->server_count && len < size; i++) {
        char shown[300];
        len +=
            (size_t)snprintf(buf + len, size - len, "%s%s: %s", i ? "; " : "",
                             link_shown_server(known[i].url, shown, sizeof shown), known[i].reason);
    }
}

/* Each reason is logged once in an outage, and the present one stands in /readyz. */
static void log_trouble(struct link *link)
{
    char text[sizeof link->trouble];
    all_reasons(link, text, sizeof text);
    uint64_t hash = hash_add(HASH_START, text, strlen(text));
    mutex_lock(&link->lock);
    bool tell = !link->stopping;
    memcpy(link->trouble, text, sizeof text);
    mutex_unlock(&link->lock);
    for (int i = 0; i < link->told_count; i++)
        tell = tell && link->told[i] != hash;
    if (!tell || link->told_count == LINK_TOLD)
        return;
    link->told[link->told_count++] = hash;
    log_warn("%s connection: waiting for %s", link->label, text);
}

/* --- up --- */

void link_up(struct link *link, bool anew)
{
    struct transport_place place = {.wire = ""};
    char server[sizeof link->server];
    uint64_t now_ns = clock_now_ns();
    link->transport->kind->describe(link->transport, &place);
    if (place.max_payload > 0)
        atomic_store(&link->max_payload, place.max_payload);

    mutex_lock(&link->lock);
    if (place.url[0])
        link_shown_server(place.url, link->server, sizeof link->server);
    link->wire = place.wire;
    link->any_thread = place.any_thread;
    memcpy(server, link->server, sizeof server);
    double away_s = link->lost_ns ? (double)(now_ns - link->lost_ns) / 1e9 : 0;
    bool fell = anew && link->fell; /* already, and said so: on_back or on_gone follows */
    bool first = link->opened == 0, tell = !link->stopping && !fell;
    if (anew) {
        link->opened++;
        link->asked_ns = 0;
    }
    if (!fell) {
        link->connects++;
        link->away_ns += link->lost_ns ? now_ns - link->lost_ns : 0;
        link->fell = false;
        link->lost_ns = 0;
        link->unanswered_ns = 0;
        link->error[0] = '\0';
        link->trouble[0] = '\0';
    }
    /* It may have closed already, and said so. */
    if (!fell && link->closed < link->opened)
        link_set_state(link, LINK_CONNECTED);
    if (anew)
        link_subs_renew(link);
    else
        link_subs_tried(link); /* every SUB was sent again */
    mutex_unlock(&link->lock);
    if (tell && !first)
        log_info("%s connection back on %s after %.1fs", link->label, server, away_s);
    else if (tell && link->attempts > 0)
        log_info("%s connection to %s is up", link->label, server);
    else if (tell)
        log_debug("%s connection to %s is up", link->label, server);
    link_deliver_states(link);
}

/* --- the writer's part --- */

/* Waits before the next try; subscriptions that are not wanted any more end meanwhile. False: the
 * link stops. */
static bool wait_to_connect(struct link *link)
{
    int64_t wait_ns = link->attempts ? link_reconnect_wait_ns(link->options, link->attempts) : 0;
    uint64_t until = clock_now_ns() + (uint64_t)wait_ns;
    for (;;) {
        link_subs_settle(link);
        mutex_lock(&link->lock);
        if (!link->stopping && !link->todo && clock_now_ns() < until)
            link_wait_until(link, &link->work, until);
        bool stopping = link->stopping, more = link->todo != NULL;
        mutex_unlock(&link->lock);
        if (stopping)
            return false;
        if (!more && clock_now_ns() >= until)
            return true;
    }
}

static bool is_stopping(struct link *link)
{
    mutex_lock(&link->lock);
    bool stopping = link->stopping;
    mutex_unlock(&link->lock);
    return stopping;
}

/* Goes to each server once, after the one that was lost. */
static bool try_all(struct link *link)
{
    for (int i = 0; i < link->server_count && !is_stopping(link); i++) {
        int at = (link->turn + i) % link->server_count;
        if (try_server(link, &link->known[at])) {
            link->turn = at + 1;
            return true;
        }
    }
    return false;
}

bool link_connect(struct link *link)
{
    while (wait_to_connect(link)) {
        if (try_all(link)) {
            note_found(link);
            link->connected_ns = clock_now_ns();
            link->hold_until_ns = 0;
            link->told_count = 0;
            link_up(link, true);
            return true;
        }
        link->attempts++;
        log_trouble(link);
    }
    return false;
}

static void disconnect(struct link *link)
{
    link->transport->kind->disconnect(link->transport);
    link->connected = false;
}

/* One that is lost ends when what it had received is delivered. */
static void close_lost(struct link *link)
{
    note_found(link);
    link_subs_await(link);
    disconnect(link);
    mutex_lock(&link->lock);
    while (link->closed < link->opened && !link->stopping)
        cond_wait(&link->changed, &link->lock);
    mutex_unlock(&link->lock);
    link_subs_reset(link);
}

void link_disconnect(struct link *link)
{
    mutex_lock(&link->lock);
    bool gone = link->gone && !link->stopping;
    mutex_unlock(&link->lock);
    /* What ended it may end the next one, too: only a connection that lasted resets the waits. And
     * all clients of a server that went away come back together, so even the first try waits a
     * little. */
    uint64_t lasted_ns = clock_now_ns() - link->connected_ns;
    link->attempts =
        lasted_ns > (uint64_t)link->options->reconnect_max_wait_ns ? 1 : link->attempts + 1;
    if (gone) {
        close_lost(link);
        return;
    }
    link_subs_reset(link);
    disconnect(link);
}
