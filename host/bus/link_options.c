#include "bus/link_options.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/link_private.h"
#include "bus/retry.h"

/* What is not stated in the options. */
#define DEFAULT_CONNECT_TIMEOUT_NS (5 * NS_PER_S)
#define DEFAULT_PING_INTERVAL_NS (5 * NS_PER_S)
#define DEFAULT_MAX_PINGS_OUT 2
#define DEFAULT_WRITE_DEADLINE_NS (2 * NS_PER_S)
#define DEFAULT_RECONNECT_WAIT_NS (250 * NS_PER_MS)
#define DEFAULT_RECONNECT_MAX_WAIT_NS (5 * NS_PER_S)

/* What link_options_make hands out, while it is being made. */
struct making {
    const struct link_options *options; /* borrowed */
    natsOptions *nats;                  /* owned */
    char *servers;                      /* owned */
};

static int64_t or_default(int64_t stated, int64_t fallback)
{
    return stated > 0 ? stated : fallback;
}

static int64_t to_ms(int64_t ns)
{
    int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > 0 ? ms : 1;
}

int64_t link_reconnect_wait_ms(const struct link_options *options, unsigned attempt)
{
    struct backoff backoff = {
        .min_ns = or_default(options->reconnect_wait_ns, DEFAULT_RECONNECT_WAIT_NS),
        .max_ns = or_default(options->reconnect_max_wait_ns, DEFAULT_RECONNECT_MAX_WAIT_NS),
        /* Gentle: after an outage of up to 10 s the next try comes within 2.7 s. With 2 it was up
         * to 4 s after one of 4 s. */
        .factor = 1.3,
    };
    int64_t jitter_ns = (int64_t)(retry_random() * (double)options->reconnect_jitter_ns);
    return to_ms(backoff_delay_ns(&backoff, attempt, 0.5) + jitter_ns);
}

static int64_t on_reconnect_delay(natsConnection *nc, int attempts, void *closure)
{
    (void)nc;
    return link_reconnect_wait_ms(closure, attempts > 0 ? (unsigned)attempts : 1);
}

/* --- servers --- */

struct url {
    char scheme[8];
    const char *userinfo;
    size_t userinfo_len; /* 0: none */
    const char *host;    /* with the brackets of an IPv6 address */
    size_t host_len;
    unsigned port;
};

/* An error never shows what stands before '@'. */
static int parse_url(const char *text, struct url *url, struct err *err)
{
    static const char want[] = "want nats://host:4222 or tls://host:4222";
    const char *rest = strstr(text, "://");
    const char *at = strrchr(text, '@');
    const char *shown = at ? at + 1 : text;
    *url = (struct url){.scheme = "nats", .port = 4222};
    if (rest) {
        size_t len = (size_t)(rest - text);
        if (!(len == 4 && strncasecmp(text, "nats", 4) == 0) &&
            !(len == 3 && strncasecmp(text, "tls", 3) == 0))
            return err_set(err, ERR_INVALID, "server \"%.*s://%s\": %s", (int)(len < 40 ? len : 40),
                           text, at ? shown : rest + 3, want);
        snprintf(url->scheme, sizeof url->scheme, "%s", len == 3 ? "tls" : "nats");
        rest += 3;
    } else {
        rest = text;
    }
    if (at && at >= rest) {
        url->userinfo = rest;
        url->userinfo_len = (size_t)(at - rest);
        rest = at + 1;
    }
    url->host = rest;
    if (*rest == '[') {
        url->host_len = strcspn(rest, "]");
        url->host_len += rest[url->host_len] == ']';
    } else {
        url->host_len = strcspn(rest, ":/");
    }
    if (url->host_len == 0 || strcspn(rest, " \t\r\n\"'<>\\") < strlen(rest))
        return err_set(err, ERR_INVALID, "server \"%s\": %s", shown, want);
    rest += url->host_len;
    if (*rest == ':') {
        char *end = NULL;
        unsigned long port = strtoul(rest + 1, &end, 10);
        if (!isdigit((unsigned char)rest[1]) || port == 0 || port > 65535)
            return err_set(err, ERR_INVALID, "server \"%s\": its port must be 1 to 65535", shown);
        url->port = (unsigned)port;
        rest = end;
    }
    if (*rest == '/')
        rest++;
    if (*rest)
        return err_set(err, ERR_INVALID, "server \"%s\": %s", shown, want);
    return 0;
}

char *link_shown_server(const char *text, char *buf, size_t size)
{
    struct url url;
    if (parse_url(text, &url, NULL) != 0)
        snprintf(buf, size, "?");
    else
        snprintf(buf, size, "%.*s:%u", (int)url.host_len, url.host, url.port);
    return buf;
}

/* One server: its full URL for nats.c in *full, which the caller frees, and "host:port" added to
 * making->servers. */
static int add_server(struct making *making, const char *text, char **full, bool *tls,
                      struct err *err)
{
    struct url url;
    int code = parse_url(text, &url, err);
    if (code)
        return code;
    char *shown = NULL;
    if (asprintf(full, "%s://%.*s%s%.*s:%u", url.scheme, (int)url.userinfo_len,
                 url.userinfo ? url.userinfo : "", url.userinfo ? "@" : "", (int)url.host_len,
                 url.host, url.port) < 0) {
        *full = NULL;
        return err_set(err, ERR_MEMORY, "out of memory");
    }
    if (asprintf(&shown, "%s%s%s://%.*s:%u", making->servers ? making->servers : "",
                 making->servers ? ", " : "", url.scheme, (int)url.host_len, url.host,
                 url.port) < 0)
        return err_set(err, ERR_MEMORY, "out of memory");
    free(making->servers);
    making->servers = shown;
    *tls = *tls || strcmp(url.scheme, "tls") == 0;
    return 0;
}

static int apply_servers(struct making *making, bool *tls, struct err *err)
{
    int count = making->options->server_count, code = 0, made = 0;
    if (count < 1)
        return err_set(err, ERR_INVALID, "servers: want at least one, as nats://127.0.0.1:4222");
    char **urls = calloc((size_t)count, sizeof *urls);
    if (!urls)
        return err_set(err, ERR_MEMORY, "out of memory");
    for (; made < count && !code; made++)
        code = add_server(making, making->options->servers[made], &urls[made], tls, err);
    if (!code && natsOptions_SetServers(making->nats, (const char **)urls, count) != NATS_OK)
        code = err_set(err, ERR_INVALID, "servers: nats.c refuses %s", making->servers);
    for (int i = 0; i < made; i++)
        free(urls[i]);
    free(urls);
    return code;
}

/* --- files --- */

/* Reads a small file of secrets into buf. What waiting cannot mend is an error here, at start. */
static int read_file(const char *what, const char *path, char *buf, size_t size, struct err *err)
{
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(buf, 1, size - 1, file) : 0;
    int failed = file && !ferror(file) ? 0 : errno;
    if (file)
        fclose(file);
    if (failed)
        return err_set(err, failed == ENOENT ? ERR_NOT_FOUND : ERR_INVALID,
                       "%s: cannot read \"%s\": %s", what, path, strerror(failed));
    if (len == 0)
        return err_set(err, ERR_INVALID, "%s: \"%s\" is empty", what, path);
    buf[len] = '\0';
    return 0;
}

/* --- nkeys (ADR-14): base32 of prefix bytes, key, CRC-16 --- */

enum { NKEY_SEED_TEXT = 58, NKEY_SEED_RAW = 36, NKEY_PUBLIC_TEXT = 56, NKEY_PUBLIC_RAW = 35 };

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static uint16_t crc16(const unsigned char *bytes, size_t len)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint16_t)(bytes[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

static bool base32_decode(const char *text, size_t len, unsigned char *out)
{
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(base32, text[i], sizeof base32 - 1);
        if (!digit)
            return false;
        held = (held << 5 | (unsigned)(digit - base32)) & 0xffff;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            *out++ = (unsigned char)(held >> bits);
        }
    }
    return true;
}

static void base32_encode(const unsigned char *bytes, size_t len, char *out)
{
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < len; i++) {
        held = (held << 8 | bytes[i]) & 0xffff;
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            *out++ = base32[held >> bits & 31];
        }
    }
    if (bits)
        *out++ = base32[held << (5 - bits) & 31];
    *out = '\0';
}

/* The public key "U..." of a user's seed "SU..."; nats.c wants it beside the seed's file. */
static bool nkey_public(const char *seed_text, char out[NKEY_PUBLIC_TEXT + 1])
{
    unsigned char seed[NKEY_SEED_RAW], public[NKEY_PUBLIC_RAW];
    size_t key_len = 32;
    bool ok = base32_decode(seed_text, NKEY_SEED_TEXT, seed) &&
              crc16(seed, 34) == (uint16_t)(seed[34] | seed[35] << 8);
    EVP_PKEY *key = ok ? EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed + 2, 32) : NULL;
    ok = key && EVP_PKEY_get_raw_public_key(key, public + 1, &key_len) == 1 && key_len == 32;
    EVP_PKEY_free(key);
    OPENSSL_cleanse(seed, sizeof seed);
    if (!ok)
        return false;
    public[0] = 20 << 3; /* the prefix of a user: 'U' */
    uint16_t crc = crc16(public, 33);
    public[33] = (unsigned char)(crc & 0xff);
    public[34] = (unsigned char)(crc >> 8);
    base32_encode(public, sizeof public, out);
    return true;
}

/* The first line that begins with "SU", as nats.c looks for it. */
static const char *find_seed(const char *text)
{
    while (*text) {
        text += strspn(text, " \t\r\n");
        size_t len = strcspn(text, " \t\r\n");
        if (len == NKEY_SEED_TEXT && strncmp(text, "SU", 2) == 0)
            return text;
        text += len;
    }
    return NULL;
}

static int apply_nkey(struct making *making, struct err *err)
{
    const char *path = making->options->nkey_seed_file;
    char text[4096], public[NKEY_PUBLIC_TEXT + 1];
    int code = read_file("nkey", path, text, sizeof text, err);
    if (code)
        return code;
    const char *seed = find_seed(text);
    bool ok = seed && nkey_public(seed, public);
    OPENSSL_cleanse(text, sizeof text);
    if (!ok)
        return err_set(err, ERR_INVALID, "nkey: \"%s\" holds no seed of a user (SU...)", path);
    if (natsOptions_SetNKeyFromSeed(making->nats, public, path) != NATS_OK)
        return err_set(err, ERR_INVALID, "nkey: nats.c refuses \"%s\"", path);
    return 0;
}

static int apply_creds(struct making *making, struct err *err)
{
    const char *path = making->options->creds_file;
    char text[16384];
    int code = read_file("creds", path, text, sizeof text, err);
    if (code)
        return code;
    bool ok = strstr(text, "NATS USER JWT") && find_seed(text);
    OPENSSL_cleanse(text, sizeof text);
    if (!ok)
        return err_set(err, ERR_INVALID,
                       "creds: \"%s\" is no credentials file: it must hold a user's JWT and seed",
                       path);
    if (natsOptions_SetUserCredentialsFromFiles(making->nats, path, NULL) != NATS_OK)
        return err_set(err, ERR_INVALID, "creds: nats.c refuses \"%s\"", path);
    return 0;
}

static int apply_auth(struct making *making, struct err *err)
{
    const struct link_options *options = making->options;
    natsStatus status = NATS_OK;
    if (options->creds_file)
        return apply_creds(making, err);
    if (options->nkey_seed_file)
        return apply_nkey(making, err);
    if (options->user || options->password)
        status = natsOptions_SetUserInfo(making->nats, options->user ? options->user : "",
                                         options->password ? options->password : "");
    else if (options->token)
        status = natsOptions_SetToken(making->nats, options->token);
    if (status != NATS_OK)
        return err_set(err, ERR_INVALID, "auth: nats.c refuses it: %s", natsStatus_GetText(status));
    return 0;
}

/* --- TLS --- */

static int tls_file(const char *what, const char *path, struct err *err)
{
    char some[64];
    return path ? read_file(what, path, some, sizeof some, err) : 0;
}

static int tls_failed(const char *what, natsStatus status, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: %s", what, link_reason(status));
}

static int apply_tls(struct making *making, bool tls, struct err *err)
{
    const struct link_options *options = making->options;
    if (!tls && !options->tls && !options->tls_ca && !options->tls_cert)
        return 0;
    if (!options->tls_cert != !options->tls_key)
        return err_set(err, ERR_INVALID, "tls: cert and key go together");
    int code = tls_file("tls.ca", options->tls_ca, err);
    if (!code)
        code = tls_file("tls.cert", options->tls_cert, err);
    if (!code)
        code = tls_file("tls.key", options->tls_key, err);
    if (code)
        return code;
    natsStatus status = natsOptions_SetSecure(making->nats, true);
    if (status != NATS_OK)
        return tls_failed("tls", status, err);
    if (options->tls_ca)
        status = natsOptions_LoadCATrustedCertificates(making->nats, options->tls_ca);
    if (status != NATS_OK)
        return tls_failed("tls.ca", status, err);
    if (options->tls_cert)
        status =
            natsOptions_LoadCertificatesChain(making->nats, options->tls_cert, options->tls_key);
    if (status != NATS_OK)
        return tls_failed("tls.cert", status, err);
    if (options->tls_skip_verify)
        status = natsOptions_SkipServerVerification(making->nats, true);
    return status == NATS_OK ? 0 : tls_failed("tls.verify", status, err);
}

/* --- the rest --- */

static natsStatus apply_times(struct making *making)
{
    const struct link_options *from = making->options;
    natsOptions *to = making->nats;
    int pings = from->max_pings_out > 0 ? from->max_pings_out : DEFAULT_MAX_PINGS_OUT;
    natsStatus status = natsOptions_SetTimeout(
        to, to_ms(or_default(from->connect_timeout_ns, DEFAULT_CONNECT_TIMEOUT_NS)));
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(
            to, to_ms(or_default(from->ping_interval_ns, DEFAULT_PING_INTERVAL_NS)));
    if (status == NATS_OK)
        status = natsOptions_SetMaxPingsOut(to, pings);
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(
            to, to_ms(or_default(from->write_deadline_ns, DEFAULT_WRITE_DEADLINE_NS)));
    if (status == NATS_OK)
        status = natsOptions_SetMaxReconnect(to, -1);
    if (status == NATS_OK)
        status = natsOptions_SetCustomReconnectDelay(to, on_reconnect_delay, (void *)from);
    /* 0: while it reconnects, nats.c refuses what is published. It waits in our lanes instead,
     * where a heartbeat is still asked whether it is wanted. */
    if (status == NATS_OK)
        status = natsOptions_SetReconnectBufSize(to, 0);
    return status;
}

static int apply_all(struct making *making, struct err *err)
{
    bool tls = false;
    natsStatus status = natsOptions_Create(&making->nats);
    if (status == NATS_OK)
        status = apply_times(making);
    if (status == NATS_OK && making->options->name)
        status = natsOptions_SetName(making->nats, making->options->name);
    if (status != NATS_OK)
        return err_set(err, ERR_SYSTEM, "nats.c: %s", natsStatus_GetText(status));
    int code = apply_servers(making, &tls, err);
    if (!code)
        code = apply_auth(making, err);
    if (!code)
        code = apply_tls(making, tls, err);
    return code;
}

int link_options_make(const struct link_options *options, natsOptions **nats, char **servers,
                      struct err *err)
{
    struct making making = {.options = options};
    int code = apply_all(&making, err);
    if (code) {
        natsOptions_Destroy(making.nats);
        free(making.servers);
        making.nats = NULL;
        making.servers = NULL;
    }
    *nats = making.nats;
    *servers = making.servers;
    return code;
}
