/* page - put together, with its policy. */
#include "app/page.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define HASH_BYTES 32

/* "'sha256-...'" of the text between its tags. */
static void hash_source(const unsigned char *text, char *source, size_t size)
{
    unsigned char digest[HASH_BYTES], base64[2 * HASH_BYTES];
    EVP_Digest(text, strlen((const char *)text), digest, NULL, EVP_sha256(), NULL);
    EVP_EncodeBlock(base64, digest, HASH_BYTES);
    snprintf(source, size, "'sha256-%s'", (const char *)base64);
}

int page_make(struct page *page)
{
    const char *html = (const char *)page_html;
    const char *style = strstr(html, "@STYLE@"), *script = strstr(html, "@SCRIPT@");
    char style_hash[80], script_hash[80];
    hash_source(page_css, style_hash, sizeof style_hash);
    hash_source(page_js, script_hash, sizeof script_hash);
    snprintf(page->policy, sizeof page->policy,
             "default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; "
             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             script_hash, style_hash);
    int len = asprintf(&page->text, "%.*s%s%.*s%s%s", (int)(style - html), html, page_css,
                       (int)(script - style - strlen("@STYLE@")), style + strlen("@STYLE@"),
                       page_js, script + strlen("@SCRIPT@"));
    page->len = len < 0 ? 0 : (size_t)len;
    if (len < 0)
        page->text = NULL;
    return len < 0 ? ERR_MEMORY : 0;
}

void page_clear(struct page *page)
{
    free(page->text);
    page->text = NULL;
}
