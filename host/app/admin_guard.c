/* admin_guard - which requests the admin endpoint allows. That depends on where it listens, and on
 * headers that a browser adds by itself. Headers that any client can write (X-Forwarded-For and the
 * like) do not count. */
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "app/admin_private.h"

#define AUTHORIZATION_MOST 1024

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* --- by which name --- */

/* The host of "host", "host:port", "[address]:port". False: it is none of these. */
static bool host_of(const char *text, char *host, size_t size)
{
    bool brackets = text[0] == '[';
    size_t len = strcspn(text + brackets, brackets ? "]" : ":");
    const char *rest = text + brackets + len;
    if (brackets && *rest++ != ']')
        return false;
    if (*rest && (*rest != ':' || strspn(rest + 1, "0123456789") != strlen(rest + 1)))
        return false;
    return snprintf(host, size, "%.*s", (int)len, text + brackets) < (int)size;
}

static bool is_local_name(const struct admin *admin, const char *text)
{
    char host[256];
    unsigned char address[sizeof(struct in6_addr)];
    if (!host_of(text, host, sizeof host))
        return false;
    return inet_pton(text[0] == '[' ? AF_INET6 : AF_INET, host, address) == 1 ||
           strcasecmp(host, "localhost") == 0 || strcasecmp(host, "localhost.") == 0 ||
           strcasecmp(host, admin->host) == 0;
}

static enum MHD_Result count_hosts(void *owner, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    (void)value;
    *(int *)owner += strcasecmp(name, "Host") == 0;
    return MHD_YES;
}

/* A page may have the name of its own site lead to this machine (DNS rebinding); then its browser
 * lets it read all that is answered, but asks by that name. */
const char *admin_bars(const struct admin *admin, struct MHD_Connection *connection, int *status)
{
    int hosts = 0;
    MHD_get_connection_values(connection, MHD_HEADER_KIND, count_hosts, &hosts);
    *status = MHD_HTTP_BAD_REQUEST;
    if (hosts > 1)
        return "more than one Host";
    *status = MHD_HTTP_FORBIDDEN;
    const char *host = header(connection, "Host");
    if (admin->loopback && host && !is_local_name(admin, host))
        return "on loopback the header Host must be an address or localhost";
    return NULL;
}

/* --- POST --- */

/* Takes as long for every text. */
static bool same_secret(const char *secret, const char *given)
{
    size_t len = strlen(given), secret_len = strlen(secret);
    volatile unsigned char differs = len != secret_len;
    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)(given[i] ^ secret[i % (secret_len + 1)]);
    return !differs;
}

/* A page in a browser sends its Origin, and newer ones say where the request comes from; nothing
 * that belongs here does. */
static bool is_by_page(struct MHD_Connection *connection)
{
    const char *site = header(connection, "Sec-Fetch-Site");
    return header(connection, "Origin") ||
           (site && strcasecmp(site, "none") != 0 && strcasecmp(site, "same-origin") != 0);
}

/* As a bearer's, or as the password of any user, which browsers ask for. */
static bool has_token(struct MHD_Connection *connection, const char *token)
{
    const char *given = header(connection, "Authorization");
    unsigned char plain[AUTHORIZATION_MOST];
    if (!given || strlen(given) >= sizeof plain)
        return false;
    if (strncasecmp(given, "Bearer ", 7) == 0)
        return same_secret(token, given + 7);
    if (strncasecmp(given, "Basic ", 6) != 0)
        return false;
    int len = EVP_DecodeBlock(plain, (const unsigned char *)given + 6, (int)strlen(given + 6));
    plain[len > 0 ? len : 0] = '\0'; /* what is filled up is NUL as well */
    const char *password = strchr((const char *)plain, ':');
    return password && same_secret(token, password + 1);
}

const char *admin_bars_post(const struct admin *admin, struct MHD_Connection *connection,
                            int *status)
{
    const char *token = admin->app->config->admin_token;
    *status = MHD_HTTP_FORBIDDEN;
    if (is_by_page(connection))
        return "not from a browser";
    if (!token && !admin->loopback)
        return "the endpoint is off loopback: set admin_token in the config";
    if (!token || has_token(connection, token))
        return NULL;
    *status = MHD_HTTP_UNAUTHORIZED;
    return "wants the header Authorization: Bearer with the config's admin_token";
}

/* --- what may have the texts of messages in it --- */

/* "localhost", or an address of this machine alone. */
static bool names_this_machine(const char *text)
{
    char host[256];
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (!host_of(text, host, sizeof host))
        return false;
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        return admin_is_loopback((const struct sockaddr *)&v4);
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1)
        return admin_is_loopback((const struct sockaddr *)&v6);
    return strcasecmp(host, "localhost") == 0;
}

/* A proxy on this machine asks for somebody else: most say so, or for which host. */
static bool is_from_here(struct MHD_Connection *connection)
{
    const char *host = header(connection, "Host");
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info && admin_is_loopback(info->client_addr) && (!host || names_this_machine(host)) &&
           !header(connection, "Forwarded") && !header(connection, "X-Forwarded-For");
}

const char *admin_bars_private(const struct admin *admin, struct MHD_Connection *connection,
                               int *status)
{
    const char *token = admin->app->config->admin_token;
    if (admin->loopback || (!token && is_from_here(connection)))
        return NULL;
    *status = MHD_HTTP_FORBIDDEN;
    if (!token)
        return "errors may quote messages: set admin_token in the config, or ask from the machine "
               "itself";
    *status = MHD_HTTP_UNAUTHORIZED;
    return has_token(connection, token)
               ? NULL
               : "wants the config's admin_token: as a bearer's, or as a password";
}
