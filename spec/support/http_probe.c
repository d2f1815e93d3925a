#include "http_probe.h"

#include <stdatomic.h>
#include <stdlib.h>

struct http_probe {
    _Atomic int pieces, ends;
};

struct http_probe *http_probe_new(void)
{
    return calloc(1, sizeof(struct http_probe));
}

void http_probe_free(struct http_probe *probe)
{
    free(probe);
}

void http_probe_on_event(void *owner, enum http_event event)
{
    struct http_probe *probe = owner;
    if (event == HTTP_PIECE)
        probe->pieces++;
    else
        probe->ends++;
}

int http_probe_pieces(struct http_probe *probe)
{
    return probe->pieces;
}

int http_probe_ends(struct http_probe *probe)
{
    return probe->ends;
}
