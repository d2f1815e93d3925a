/* Why nats.c could not do something. */
#include "bus/link/nats_reason.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/value.h"
#include "bus/link/link_url.h"
#include "bus/link/nats_tls.h"

static const char no_nats[] = "not NATS at this port";

const char *nats_reason(natsStatus status)
{
    natsStatus last_status = NATS_OK;
    const char *last = nats_GetLastError(&last_status);
    if (!last || !*last || last_status != status)
        return natsStatus_GetText(status);
    const char *rest = *last == '(' ? strstr(last, "): ") : NULL;
    return rest ? rest + 3 : last;
}

/* The server was not reached at all. nats.c says the same of a name that nobody knows. */
static char *not_reached(const char *url, char *buf, size_t size)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct link_url parts;
    char host[256];
    bool is_address = true;
    if (url && link_url_parse(url, &parts, NULL) == 0)
        link_url_host(&parts, host, sizeof host, &is_address);
    int code = is_address ? 0 : getaddrinfo(host, NULL, &hints, &found);
    if (found)
        freeaddrinfo(found);
    if (code)
        snprintf(buf, size, "its name is not known: %s", gai_strerror(code));
    else
        snprintf(buf, size, "nobody answers there");
    return buf;
}

/* It took too long, and was ended. After INFO nats.c expects a PONG; from 3.8 on it does not say
 * so, and whether the server said anything is not known. */
static char *too_long(bool greeted, int64_t took_ns, char *buf, size_t size)
{
    if (greeted)
        snprintf(buf, size,
                 "the server says INFO, but does not end the handshake within %.3gs: it is frozen, "
                 "or overloaded",
                 (double)took_ns / 1e9);
    else
        snprintf(buf, size,
                 "it takes connections, but does not end the handshake within %.3gs: frozen, or %s",
                 (double)took_ns / 1e9, no_nats);
    return buf;
}

char *nats_reason_connect(natsStatus status, const char *url, bool ended, int64_t took_ns,
                          char *buf, size_t size)
{
    const char *said = nats_reason(status), *tls = nats_tls_trouble();
    bool greeted = strstr(said, "PONG") != NULL || status == NATS_SSL_ERROR;
    if (ended)
        return too_long(greeted, took_ns, buf, size);
    if (tls) {
        snprintf(buf, size, "%s", tls);
        return buf;
    }
    switch (status) {
    case NATS_NO_SERVER:
        return not_reached(url, buf, size);
    case NATS_TIMEOUT:
        return too_long(greeted, took_ns, buf, size);
    case NATS_SECURE_CONNECTION_WANTED:
        snprintf(buf, size, "TLS is asked for, and the server does not offer it");
        return buf;
    case NATS_SSL_ERROR:
        if (strstr(said, "wrong version number"))
            snprintf(buf, size, "what answers there does not speak TLS");
        else
            snprintf(buf, size, "%s", said);
        return buf;
    case NATS_PROTOCOL_ERROR:
    case NATS_LINE_TOO_LONG:
    case NATS_CONNECTION_CLOSED:
    case NATS_IO_ERROR:
        if (nats_tls_guess())
            snprintf(buf, size, "%s", nats_tls_guess());
        else if (greeted)
            snprintf(buf, size, "the server closed the connection during the handshake");
        else if (status == NATS_PROTOCOL_ERROR || status == NATS_LINE_TOO_LONG)
            snprintf(buf, size, "%s", no_nats);
        else
            snprintf(buf, size, "it closes the connection without a word: %s?", no_nats);
        return buf;
    default:
        snprintf(buf, size, "%s", said);
        return buf;
    }
}
