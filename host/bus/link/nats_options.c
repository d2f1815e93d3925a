/* natsOptions from the settings of a link. */
#include "bus/link/nats_options.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/link/link_url.h"
#include "bus/link/nats_nkey.h"
#include "bus/link/nats_tls.h"

/* What nats_options_make hands out, while it is being made. */
struct nats_making {
    const struct link_options *options; /* borrowed */
    natsOptions *nats;                  /* owned */
};

static int64_t to_ms(int64_t ns)
{
    int64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > 0 ? ms : 1;
}

/* --- servers --- */

static int apply_servers(struct nats_making *making, bool *tls, struct err *err)
{
    int count = making->options->server_count, code = 0, made = 0;
    if (count < 1)
        return err_set(err, ERR_INVALID, "servers: want at least one, as nats://127.0.0.1:4222");
    char **urls = calloc((size_t)count, sizeof *urls);
    if (!urls)
        return err_set(err, ERR_MEMORY, "out of memory");
    for (; made < count && !code; made++) {
        struct link_url url;
        code = link_url_parse(making->options->servers[made], &url, err);
        if (!code && !(urls[made] = link_url_full(&url)))
            code = err_set(err, ERR_MEMORY, "out of memory");
        *tls = *tls || (!code && strcmp(url.scheme, "tls") == 0);
    }
    if (!code && natsOptions_SetServers(making->nats, (const char **)urls, count) != NATS_OK)
        code = err_set(err, ERR_INVALID, "servers: nats.c refuses them");
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

/* --- authentication --- */

static int apply_nkey(struct nats_making *making, struct err *err)
{
    const char *path = making->options->nkey_seed_file;
    char text[4096], public[NATS_NKEY_PUBLIC];
    int code = read_file("nkey", path, text, sizeof text, err);
    if (code)
        return code;
    const char *seed = nats_nkey_seed(text);
    bool ok = seed && nats_nkey_public(seed, public);
    OPENSSL_cleanse(text, sizeof text);
    if (!ok)
        return err_set(err, ERR_INVALID, "nkey: \"%s\" holds no seed of a user (SU...)", path);
    if (natsOptions_SetNKeyFromSeed(making->nats, public, path) != NATS_OK)
        return err_set(err, ERR_INVALID, "nkey: nats.c refuses \"%s\"", path);
    return 0;
}

static int apply_creds(struct nats_making *making, struct err *err)
{
    const char *path = making->options->creds_file;
    char text[16384];
    int code = read_file("creds", path, text, sizeof text, err);
    if (code)
        return code;
    bool ok = strstr(text, "NATS USER JWT") && nats_nkey_seed(text);
    OPENSSL_cleanse(text, sizeof text);
    if (!ok)
        return err_set(err, ERR_INVALID,
                       "creds: \"%s\" is no credentials file: it must hold a user's JWT and seed",
                       path);
    if (natsOptions_SetUserCredentialsFromFiles(making->nats, path, NULL) != NATS_OK)
        return err_set(err, ERR_INVALID, "creds: nats.c refuses \"%s\"", path);
    return 0;
}

/* Called by nats.c for each connect; what it gets is its own to free. The texts are the options'.
 */
static natsStatus on_jwt(char **jwt, char **error, void *closure)
{
    (void)error;
    *jwt = strdup(closure);
    return *jwt ? NATS_OK : NATS_NO_MEMORY;
}

static natsStatus on_sign(char **error, unsigned char **signature, int *len, const char *nonce,
                          void *closure)
{
    (void)error;
    return nats_Sign(closure, nonce, signature, len);
}

/* Of a bearer's JWT, which goes without one; nats.c wants some bytes. */
static natsStatus on_no_seed(char **error, unsigned char **signature, int *len, const char *nonce,
                             void *closure)
{
    (void)error;
    (void)nonce;
    (void)closure;
    *len = 64;
    *signature = calloc(1, (size_t)*len);
    return *signature ? NATS_OK : NATS_NO_MEMORY;
}

static int apply_texts(struct nats_making *making, struct err *err)
{
    const struct link_options *options = making->options;
    void *jwt = (void *)options->jwt, *seed = (void *)options->seed;
    char public[NATS_NKEY_PUBLIC];
    natsStatus status;
    if (seed && !nats_nkey_public(options->seed, public))
        return err_set(err, ERR_INVALID, "seed: it is no seed of a user (SU...)");
    if (jwt)
        status = natsOptions_SetUserCredentialsCallbacks(making->nats, on_jwt, jwt,
                                                         seed ? on_sign : on_no_seed, seed);
    else
        status = natsOptions_SetNKey(making->nats, public, on_sign, seed);
    return status == NATS_OK ? 0
                             : err_set(err, ERR_INVALID, "auth: nats.c refuses the jwt or seed");
}

static int apply_auth(struct nats_making *making, struct err *err)
{
    const struct link_options *options = making->options;
    natsStatus status = NATS_OK;
    if (options->creds_file)
        return apply_creds(making, err);
    if (options->nkey_seed_file)
        return apply_nkey(making, err);
    if (options->jwt || options->seed)
        return apply_texts(making, err);
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

static int apply_tls(struct nats_making *making, bool required, struct err *err)
{
    const struct link_options *options = making->options;
    int code = tls_file("tls.ca", options->tls_ca, err);
    if (!code)
        code = tls_file("tls.cert", options->tls_cert, err);
    if (!code)
        code = tls_file("tls.key", options->tls_key, err);
    return code ? code : nats_tls_apply(making->nats, options, required, err);
}

/* --- the rest --- */

static natsStatus apply_times(struct nats_making *making)
{
    const struct link_options *from = making->options;
    natsOptions *to = making->nats;
    /* A little more than is allowed: nats_watch ends what takes too long just before nats.c's own
     * deadline, after which 3.4 waits for a PONG without sleeping. */
    natsStatus status = natsOptions_SetTimeout(to, to_ms(link_connect_timeout_ns(from) / 4 * 5));
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(to, to_ms(link_ping_interval_ns(from)));
    if (status == NATS_OK)
        status = natsOptions_SetMaxPingsOut(to, link_max_pings_out(from));
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(to, to_ms(link_write_deadline_ns(from)));
    if (status == NATS_OK)
        status = natsOptions_SetMaxReconnect(to, -1);
    /* 0: while it reconnects, nats.c refuses what is published. It waits in our lanes instead,
     * where a heartbeat is still asked whether it is wanted. */
    if (status == NATS_OK)
        status = natsOptions_SetReconnectBufSize(to, 0);
    return status;
}

static int apply_all(struct nats_making *making, struct err *err)
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

int nats_options_make(const struct link_options *options, natsOptions **nats, struct err *err)
{
    struct nats_making making = {.options = options};
    int code = apply_all(&making, err);
    if (code) {
        natsOptions_Destroy(making.nats);
        making.nats = NULL;
    }
    *nats = making.nats;
    return code;
}
