/* page - the web page of the admin endpoint: one file, made of three of page/ that lie in the
 * program, and the Content-Security-Policy under which it runs.
 *
 * It reads /status, /metrics and /recent by itself. The policy lets run what is in it, by hash, and
 * nothing else; text of messages that found a way into it would still be no script. Immutable. */
#ifndef MOONBUS_APP_PAGE_H
#define MOONBUS_APP_PAGE_H

#include <stddef.h>

struct page {
    char *text; /* owned; HTML in UTF-8, NUL-ended */
    size_t len;
    char policy[512]; /* the header's value */
};

/* Made at the build (page/embed.cmake); NUL-ended. */
extern const unsigned char page_html[], page_css[], page_js[];

/* 0, or ERR_MEMORY. */
int page_make(struct page *page);
void page_clear(struct page *page);

#endif
