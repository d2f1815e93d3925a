/* nats.c as a whole. */
#include "bus/link/library.h"

#include <nats/nats.h>
#include <openssl/ssl.h>

#include "bus/link/nats_reap.h"

const char *library_version(void)
{
    return nats_GetVersion();
}

void library_end_thread(void)
{
    nats_ReleaseThreadMemory();
}

static void free_method(SSL_COMP *method)
{
    OPENSSL_free(method);
}

/* nats.c frees OpenSSL's list of compression methods as it ends, and OpenSSL does so once more when
 * the process exits. So neither of them finds one. */
static void free_compression_methods(void)
{
    sk_SSL_COMP_pop_free(SSL_COMP_set0_compression_methods(NULL), free_method);
}

bool library_end(int64_t timeout_ms)
{
    nats_reap_flush();
    free_compression_methods();
    return nats_CloseAndWait(timeout_ms) == NATS_OK;
}
