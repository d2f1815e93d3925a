/* TLS of a connection of nats.c. The SSL_CTX that nats.c makes is known from a callback of
 * OpenSSL's own, so that everything here is public API of both. */
#include "bus/link/nats_tls.h"

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "bus/link/nats_reason.h"

static _Thread_local SSL_CTX *born; /* the last that was made on this thread */
static _Thread_local char target[256], trouble[256];
static _Thread_local const char *guess; /* why it closes the connection without a word */

/* --- why --- */

static const char wanted[] = "the server wants a client certificate: state tls.cert and tls.key";
static const char expired[] = "certificate expired: that of the client, in tls.cert";

static const char unfit[] =
    "the server refuses the client certificate in tls.cert: it must be of an "
    "authority that the server knows, and for clients";

static bool is_expired(const X509 *cert)
{
    return cert && X509_cmp_current_time(X509_get0_notAfter(cert)) < 0;
}

/* The server ended the handshake, or, as TLS 1.3 lets it, the connection just after. */
static void note_alert(const SSL *ssl, int alert)
{
    const X509 *own = SSL_get_certificate(ssl);
    int what = alert & 0xff;
    switch (what) {
    case SSL_AD_CLOSE_NOTIFY:
    case SSL_AD_USER_CANCELLED:
        return;
    case SSL_AD_BAD_CERTIFICATE: /* how servers in Go say that there is none */
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_CERTIFICATE_REQUIRED:
        if (!own) {
            snprintf(trouble, sizeof trouble, "%s", wanted);
            return;
        }
        break;
    default:
        break;
    }
    if (is_expired(own))
        snprintf(trouble, sizeof trouble, "%s", expired);
    else if (own && (what == SSL_AD_UNKNOWN_CA || what == SSL_AD_BAD_CERTIFICATE ||
                     what == SSL_AD_CERTIFICATE_UNKNOWN))
        snprintf(trouble, sizeof trouble, "%s", unfit);
    else if (own && what > SSL_AD_BAD_CERTIFICATE && what < SSL_AD_CERTIFICATE_UNKNOWN)
        snprintf(trouble, sizeof trouble,
                 "the server refuses the client certificate in tls.cert: %s",
                 SSL_alert_desc_string_long(alert));
    else
        snprintf(trouble, sizeof trouble, "the server refuses the TLS handshake: %s",
                 SSL_alert_desc_string_long(alert));
}

/* We ended it: the server's certificate does not do. */
static void note_verdict(const SSL *ssl)
{
    long code = SSL_get_verify_result(ssl);
    const char *host = X509_VERIFY_PARAM_get0_host(SSL_get0_param((SSL *)ssl), 0);
    switch (code) {
    case X509_V_OK:
        return;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        snprintf(trouble, sizeof trouble,
                 "certificate expired: that of the server, or of the authority that signed it");
        return;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(trouble, sizeof trouble,
                 "the server's certificate is not for \"%.100s\": use a name that it holds",
                 host ? host : target);
        return;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        snprintf(trouble, sizeof trouble,
                 "the server's certificate is signed by no authority that is trusted here: name "
                 "it in tls.ca");
        return;
    default:
        snprintf(trouble, sizeof trouble, "the server's certificate is refused: %s",
                 X509_verify_cert_error_string(code));
    }
}

/* OpenSSL calls it when the server asks for a certificate. In TLS 1.3 it judges it when the
 * handshake is over for us, and what it says may be lost with the connection. */
static int on_asked(SSL *ssl, void *argument)
{
    const X509 *own = SSL_get_certificate(ssl);
    (void)argument;
    if (!own)
        guess = wanted;
    else if (is_expired(own))
        guess = expired;
    else
        guess = unfit;
    return 1;
}

static bool is_address(const char *host)
{
    unsigned char address[16];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* OpenSSL calls it at each step of a handshake, and for alerts that come later. */
static void on_step(const SSL *ssl, int where, int result)
{
    if (where == SSL_CB_HANDSHAKE_START) {
        const char *host = X509_VERIFY_PARAM_get0_host(SSL_get0_param((SSL *)ssl), 0);
        host = host ? host : target;
        if (*host && !is_address(host) && !SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name))
            SSL_set_tlsext_host_name((SSL *)ssl, host);
    } else if (where == SSL_CB_READ_ALERT) {
        note_alert(ssl, result);
    } else if (where == SSL_CB_CONNECT_EXIT && result <= 0 &&
               SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE) {
        note_verdict(ssl);
    }
}

/* --- making it --- */

static void on_born(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
    (void)ptr;
    (void)data;
    (void)index;
    (void)argl;
    (void)argp;
    born = parent;
}

static void listen_for_births(void)
{
    SSL_CTX_get_ex_new_index(0, NULL, on_born, NULL, NULL);
}

static int set_tls_error(const char *what, natsStatus status, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: %s", what, nats_reason(status));
}

static void know_births(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, listen_for_births);
    born = NULL;
}

static int begin_with_tls(natsOptions *nats, struct err *err)
{
#ifdef HAVE_TLS_FIRST
    natsStatus status = natsOptions_TLSHandshakeFirst(nats);
    return status == NATS_OK ? 0 : set_tls_error("tls.first", status, err);
#else
    (void)nats;
    return err_set(err, ERR_INVALID,
                   "tls.first: this moonbus was built with nats.c %s, which cannot begin with TLS; "
                   "with 3.10 it can",
                   nats_GetVersion());
#endif
}

int nats_tls_apply(natsOptions *nats, const struct link_options *options, bool required,
                   struct err *err)
{
    if (!required && !options->tls && !options->tls_ca && !options->tls_cert && !options->tls_first)
        return 0;
    if (!options->tls_cert != !options->tls_key)
        return err_set(err, ERR_INVALID, "tls: cert and key go together");
    know_births();
    natsStatus status = natsOptions_SetSecure(nats, true);
    if (status != NATS_OK)
        return set_tls_error("tls", status, err);
    if (born) {
        SSL_CTX_set_info_callback(born, on_step);
        SSL_CTX_set_cert_cb(born, on_asked, NULL);
    }
    if (options->tls_skip_verify)
        status = natsOptions_SkipServerVerification(nats, true);
    if (status != NATS_OK)
        return set_tls_error("tls.verify", status, err);
    if (options->tls_ca)
        status = natsOptions_LoadCATrustedCertificates(nats, options->tls_ca);
    if (status != NATS_OK)
        return set_tls_error("tls.ca", status, err);
    if (options->tls_cert)
        status = natsOptions_LoadCertificatesChain(nats, options->tls_cert, options->tls_key);
    if (status != NATS_OK)
        return set_tls_error("tls.cert", status, err);
    return options->tls_first ? begin_with_tls(nats, err) : 0;
}

void nats_tls_begin(const char *host)
{
    know_births();
    snprintf(target, sizeof target, "%s", host);
    guess = NULL;
    trouble[0] = '\0';
}

bool nats_tls_wanted(void)
{
    return born != NULL;
}

const char *nats_tls_trouble(void)
{
    return trouble[0] ? trouble : NULL;
}

const char *nats_tls_guess(void)
{
    return guess;
}
