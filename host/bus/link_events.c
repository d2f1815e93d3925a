#include <dirent.h>
#include <fcntl.h>
#include <nats/nats.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/link_options.h"
#include "bus/link_private.h"

const char *link_reason(natsStatus status)
{
    natsStatus last_status = NATS_OK;
    const char *last = nats_GetLastError(&last_status);
    if (!last || !*last || last_status != status)
        return natsStatus_GetText(status);
    const char *rest = *last == '(' ? strstr(last, "): ") : NULL;
    return rest ? rest + 3 : last;
}

static bool is_bound_to(int fd, const char *ip, int port)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char host[NI_MAXHOST], service[NI_MAXSERV];
    return getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
           getnameinfo((struct sockaddr *)&address, size, host, sizeof host, service,
                       sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
           atoi(service) == port && strncmp(host, ip, strlen(ip)) == 0;
}

void link_close_on_exec(natsConnection *nc)
{
    char *ip = NULL;
    int port = 0;
    if (natsConnection_GetLocalIPAndPort(nc, &ip, &port) != NATS_OK)
        return;
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && is_bound_to(fd, ip, port))
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (folder)
        closedir(folder);
    free(ip);
}

/* --- the state, and its call up --- */

/* A state is called up by whoever finds nobody else doing so: in order, without a lock, and on no
 * thread of its own. The writer cannot do it alone: it may be held up in nats.c just when the
 * connection goes. */
void link_set_state(struct link *link, enum link_state state)
{
    atomic_store(&link->state, state);
    if (!link->stopping) {
        if (link->queued_count == LINK_STATES_QUEUED)
            link->queued_count--; /* flapping faster than anyone looks: the last one counts */
        link->queued_states[link->queued_count++] = state;
    }
    link->writer_idle = false;
    pthread_cond_signal(&link->work);
    pthread_cond_broadcast(&link->changed);
}

void link_deliver_states(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    if (link->delivering || !link->events.on_state) {
        if (!link->events.on_state)
            link->queued_count = 0;
        pthread_mutex_unlock(&link->lock);
        return;
    }
    link->delivering = true;
    link->calls_up++;
    while (link->queued_count && !link->stopping) {
        enum link_state state = link->queued_states[0];
        link->queued_count--;
        memmove(link->queued_states, link->queued_states + 1,
                (size_t)link->queued_count * sizeof *link->queued_states);
        pthread_mutex_unlock(&link->lock);
        link->events.on_state(link->events.owner, link, state);
        pthread_mutex_lock(&link->lock);
    }
    link->delivering = false;
    link->calls_up--;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* --- what nats.c tells, on its one thread for that, in order for each connection --- */

/* Lock held. nats.c 3.4 forgets why a connection was lost before it says so: what is left is what
 * the server complained of, and whether it had been answering. */
static void why_lost(const struct link *link, char *buf, size_t size)
{
    uint64_t silent_ns = link->unanswered_ns ? clock_now_ns() - link->unanswered_ns : 0;
    if (link->error[0])
        snprintf(buf, size, "%s", link->error);
    else if (silent_ns > NS_PER_S)
        snprintf(buf, size, "the server has not answered for %.1fs", (double)silent_ns / 1e9);
    else
        snprintf(buf, size, "closed by the server or the network");
}

void link_on_disconnected(natsConnection *nc, void *closure)
{
    struct link *link = closure;
    char server[sizeof link->server], reason[sizeof link->error];
    (void)nc;
    pthread_mutex_lock(&link->lock);
    bool tell = !link->stopping;
    why_lost(link, reason, sizeof reason);
    memcpy(server, link->server, sizeof server);
    link->lost_ns = clock_now_ns();
    link->unanswered_ns = 0;
    if (tell)
        link_set_state(link, LINK_DISCONNECTED);
    pthread_mutex_unlock(&link->lock);
    if (tell)
        log_warn("%s connection to %s lost: %s", link->label, server, reason);
    link_deliver_states(link);
}

void link_on_reconnected(natsConnection *nc, void *closure)
{
    struct link *link = closure;
    char url[1024] = "", server[sizeof link->server];
    link_close_on_exec(nc);
    natsConnection_GetConnectedUrl(nc, url, sizeof url);
    int64_t max_payload = natsConnection_GetMaxPayload(nc);
    if (max_payload > 0)
        atomic_store(&link->max_payload, (size_t)max_payload);
    pthread_mutex_lock(&link->lock);
    if (url[0])
        link_shown_server(url, link->server, sizeof link->server);
    memcpy(server, link->server, sizeof server);
    bool tell = !link->stopping;
    double away_s = link->lost_ns ? (double)(clock_now_ns() - link->lost_ns) / 1e9 : 0;
    link->lost_ns = 0;
    link->error[0] = '\0';
    if (tell)
        link_set_state(link, LINK_CONNECTED);
    pthread_mutex_unlock(&link->lock);
    if (tell)
        log_info("%s connection back on %s after %.1fs", link->label, server, away_s);
    link_deliver_states(link);
}

void link_on_closed(natsConnection *nc, void *closure)
{
    struct link *link = closure;
    char server[sizeof link->server], reason[sizeof link->error];
    (void)nc;
    pthread_mutex_lock(&link->lock);
    why_lost(link, reason, sizeof reason);
    memcpy(server, link->server, sizeof server);
    bool tell = !link->stopping;
    link->closed++;
    if (!link->lost_ns)
        link->lost_ns = clock_now_ns();
    if (tell)
        link_set_state(link, LINK_CLOSED);
    pthread_cond_broadcast(&link->changed);
    link->calls_up++; /* the link must not go while this function still uses it */
    pthread_mutex_unlock(&link->lock);
    if (tell)
        log_error("%s connection to %s closed for good: %s; making it anew", link->label, server,
                  reason);
    link_deliver_states(link);
    pthread_mutex_lock(&link->lock);
    link->calls_up--;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* --- complaints --- */

/* Finds the operation and the subject in: Permissions Violation for Publish to "a.b". */
static bool parse_permission(const char *text, const char **operation, char *subject, size_t size)
{
    static const char prefix[] = "Permissions Violation for ";
    const char *at = strcasestr(text, prefix);
    if (!at)
        return false;
    at += sizeof prefix - 1;
    *operation = strncasecmp(at, "Publish", 7) == 0 ? "publish" : "subscription";
    const char *from = strchr(at, '"');
    const char *to = from ? strchr(from + 1, '"') : NULL;
    if (!to || (size_t)(to - from) > size)
        return false; /* nats.c cuts at 255 bytes: a subject that is not whole names another */
    memcpy(subject, from + 1, (size_t)(to - from - 1));
    subject[to - from - 1] = '\0';
    return true;
}

/* Lock held. True for the first time that this text is seen (a full table says each). */
static bool new_complaint(struct link *link, const char *text)
{
    uint64_t hash = hash_add(HASH_START, text, strlen(text));
    for (int i = 0; i < link->complaint_count; i++) {
        if (link->complaints[i] == hash)
            return false;
    }
    if (link->complaint_count < LINK_COMPLAINTS)
        link->complaints[link->complaint_count++] = hash;
    return true;
}

void link_on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    struct link *link = closure;
    const char *operation = NULL;
    char text[sizeof link->error], subject[sizeof link->error], server[sizeof link->server];
    (void)nc;
    (void)sub;
    /* nats.c hands the text over as this thread's last error; that of the connection may be
     * another one by now. */
    snprintf(text, sizeof text, "%s", link_reason(status));
    bool refused = strcasestr(text, "permissions violation") != NULL;
    bool parsed = parse_permission(text, &operation, subject, sizeof subject);

    pthread_mutex_lock(&link->lock);
    if (!refused)
        memcpy(link->error, text, sizeof text);
    bool tell = refused && !link->stopping && new_complaint(link, text);
    memcpy(server, link->server, sizeof server);
    bool call = parsed && link->events.on_permission && !link->stopping;
    link->calls_up += call;
    pthread_mutex_unlock(&link->lock);
    if (tell)
        log_error("%s connection to %s: %s", link->label, server, text);
    if (!call)
        return;
    link->events.on_permission(link->events.owner, link, operation, subject);
    pthread_mutex_lock(&link->lock);
    link->calls_up--;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}
