/* http_kept - what of libcurl is used again: handles, and connections that nobody uses. */
#include <sys/resource.h>
#include <unistd.h>

#include "http/http_private.h"

/* Connections that nobody uses, kept for the next call; libcurl closes those that are older than
 * about two minutes, when the next call comes. To open and close one is half of what a call costs:
 * a second burst of 1000 took 0.19 s of processor time with 256 of them, 0.13 s with 1024. */
#define CONNECTIONS_KEPT 1024
/* And no more than a fourth of the descriptors that the process may have. */
#define DESCRIPTORS_SHARE 4

/* Handles -------------------------------------------------------------------------------------- */

CURL *http_kept_take(struct http *http)
{
    CURL *easy = http->handle_count ? http->handles[--http->handle_count] : curl_easy_init();
    if (easy)
        http->under_way++;
    return easy;
}

void http_kept_return(struct http *http, CURL *easy)
{
    http->under_way--;
    curl_easy_reset(easy);
    if (http->handle_count < HANDLES_MOST)
        http->handles[http->handle_count++] = easy;
    else
        curl_easy_cleanup(easy);
}

bool http_kept_surplus(const struct http *http)
{
    return !http->calls && http->handle_count > HANDLES_KEPT;
}

void http_kept_trim(struct http *http)
{
    while (http_kept_surplus(http))
        curl_easy_cleanup(http->handles[--http->handle_count]);
}

/* Connections ---------------------------------------------------------------------------------- */

static void take_one(struct http_call *call)
{
    if (!call->takes)
        call->http->takers++;
    call->takes = true;
}

/* libcurl looks at all connections to a server for one that is free: with a thousand calls under
 * way, at a thousand for each call. That there is none is known here of connections without TLS,
 * which carry one call at a time. */
bool http_kept_none(struct http_call *call)
{
    struct http *http = call->http;
    if (call->url.tls)
        return false;
    if (http->sockets <= http->takers)
        return true;
    take_one(call);
    return false;
}

void http_kept_opened(struct http_call *call)
{
    if (call->url.tls)
        return;
    call->http->sockets++;
    take_one(call);
}

void http_kept_left(struct http_call *call)
{
    if (call->takes)
        call->http->takers--;
    call->takes = false;
}

int http_kept_closed(void *owner, curl_socket_t fd)
{
    struct http *http = owner;
    http->sockets--;
    return close(fd);
}

void http_kept_open(struct http *http)
{
    struct rlimit limit;
    http->connections_kept = CONNECTIONS_KEPT;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur / DESCRIPTORS_SHARE < CONNECTIONS_KEPT)
        http->connections_kept = (int)(limit.rlim_cur / DESCRIPTORS_SHARE);
    http_kept_bound(http);
}

/* libcurl counts those that are in use, too: with more of them than the bound, it would close each
 * connection whose call is done. */
void http_kept_bound(struct http *http)
{
    int most = http->under_way + http->connections_kept;
    if (most == http->connections_most)
        return;
    http->connections_most = most;
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)most);
}
