/* offload_versions - what the last version of each module was made of that loaded on some thread:
 * texts of files, from which the others make it when the one on disk does not load. */
#include <stdlib.h>
#include <string.h>

#include "base/sync.h"
#include "base/table.h"
#include "engine/offload/offload_private.h"

struct offload_version {
    UT_hash_handle hh;
    struct plain *files; /* a reference; one value, as Lua wrote it */
    char *id;            /* owned; one text for each content */
    char *complaint; /* owned; what has been told since of one that does not load; NULL: nothing */
    char key[];
};

/* With the lock of offload held; NULL: none. */
static struct offload_version *find(struct offload *offload, const char *key, size_t len)
{
    struct offload_version *version;
    HASH_FIND(hh, offload->versions, key, len, version);
    return version;
}

static void version_free(struct offload_version *version)
{
    plain_release(version->files);
    free(version->complaint);
    free(version->id);
    free(version);
}

void offload_free_versions(struct offload *offload)
{
    struct offload_version *version, *next;
    HASH_ITER(hh, offload->versions, version, next) {
        HASH_DEL(offload->versions, version);
        version_free(version);
    }
}

static struct offload_version *version_new(const char *key, size_t len, const char *id,
                                           struct plain *files)
{
    struct offload_version *version = calloc(1, sizeof *version + len);
    char *copy = strdup(id);
    if (!version || !copy) {
        free(version);
        free(copy);
        plain_release(files);
        return NULL;
    }
    memcpy(version->key, key, len);
    version->id = copy;
    version->files = files;
    return version;
}

void offload_keep_version(struct offload *offload, const char *key, size_t len, const char *id,
                          struct plain *files)
{
    struct offload_version *version = version_new(key, len, id, files);
    if (!version) /* no memory: the one before stays */
        return;
    mutex_lock(&offload->lock);
    struct offload_version *before = find(offload, key, len);
    HASH_ADD(hh, offload->versions, key, len, version);
    bool added = table_has(version);
    if (before && added)
        HASH_DEL(offload->versions, before);
    mutex_unlock(&offload->lock);
    if (!added)
        version_free(version);
    else if (before)
        version_free(before);
}

struct plain *offload_version(struct offload *offload, const char *key, size_t len)
{
    mutex_lock(&offload->lock);
    const struct offload_version *version = find(offload, key, len);
    struct plain *files = version ? plain_retain(version->files) : NULL;
    mutex_unlock(&offload->lock);
    return files;
}

bool offload_is_version(struct offload *offload, const char *key, size_t len, const char *id)
{
    mutex_lock(&offload->lock);
    const struct offload_version *version = find(offload, key, len);
    bool same = version && (!id || strcmp(version->id, id) == 0);
    mutex_unlock(&offload->lock);
    return same;
}

bool offload_complain(struct offload *offload, const char *key, size_t len, const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    mutex_lock(&offload->lock);
    struct offload_version *version = find(offload, key, len);
    bool is_new =
        version && (!text || !version->complaint || strcmp(version->complaint, text) != 0);
    if (is_new) {
        free(version->complaint);
        version->complaint = copy;
        copy = NULL;
    }
    mutex_unlock(&offload->lock);
    free(copy);
    return is_new;
}
