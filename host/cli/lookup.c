/* lookup - names of servers, asked for with a deadline. */
#include "cli/lookup.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/thread.h"
#include "bus/link/link_url.h"

/* A name that is asked for. */
struct lookup {
    struct lookups *all;
    char host[256];
    bool waits; /* all->lock */
};

/* Whoever comes last frees it: a thread may be in the resolver for longer than anybody waits. */
struct lookups {
    struct mutex lock;
    struct cond answered;
    int references, waiting; /* lock */
    struct lookup list[];
};

static void let_go(struct lookups *all)
{
    mutex_lock(&all->lock);
    bool last = --all->references == 0;
    mutex_unlock(&all->lock);
    if (!last)
        return;
    cond_destroy(&all->answered);
    mutex_destroy(&all->lock);
    free(all);
}

static void *run(void *arg)
{
    struct lookup *lookup = arg;
    struct lookups *all = lookup->all;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(lookup->host, NULL, &hints, &found) == 0)
        freeaddrinfo(found);
    mutex_lock(&all->lock);
    lookup->waits = false;
    all->waiting--;
    cond_signal(&all->answered);
    mutex_unlock(&all->lock);
    let_go(all);
    return NULL;
}

/* What is no name, or cannot be asked for, is taken for answered. */
static void begin(struct lookups *all, struct lookup *lookup, const char *text)
{
    struct link_url url;
    struct thread thread;
    bool is_address = true;
    lookup->all = all;
    if (link_url_parse(text, &url, NULL) == 0)
        link_url_host(&url, lookup->host, sizeof lookup->host, &is_address);
    if (is_address)
        return;
    mutex_lock(&all->lock);
    lookup->waits = true;
    all->references++;
    all->waiting++;
    mutex_unlock(&all->lock);
    if (thread_start(&thread, "mb-lookup", run, lookup, NULL) == 0) {
        thread_detach(thread);
        return;
    }
    mutex_lock(&all->lock);
    lookup->waits = false;
    all->references--;
    all->waiting--;
    mutex_unlock(&all->lock);
}

int lookup_servers(const char *const *urls, int count, int64_t timeout_ns, const char **kept)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)timeout_ns;
    struct lookups *all = calloc(1, sizeof *all + (size_t)count * sizeof *all->list);
    int answered = 0;
    if (!all) {
        memcpy(kept, urls, (size_t)count * sizeof *kept);
        return count;
    }
    all->references = 1;
    mutex_init(&all->lock);
    cond_init(&all->answered);
    for (int i = 0; i < count; i++)
        begin(all, &all->list[i], urls[i]);
    mutex_lock(&all->lock);
    while (all->waiting > 0 && cond_wait_until(&all->answered, &all->lock, until_ns))
        ;
    for (int i = 0; i < count; i++) {
        if (!all->list[i].waits)
            kept[answered++] = urls[i];
    }
    mutex_unlock(&all->lock);
    let_go(all);
    return answered;
}
