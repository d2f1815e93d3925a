/* config_change - applies a newly read config to the one that the host uses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/config.h"

static bool same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

#define SWAP_MOST 64 /* bytes */

static void swap(void *a, void *b, size_t size)
{
    char kept[SWAP_MOST];
    memcpy(kept, a, size);
    memcpy(a, b, size);
    memcpy(b, kept, size);
}

#define SWAP(field)                                                                                \
    do {                                                                                           \
        _Static_assert(sizeof config->field <= SWAP_MOST, "it fits");                              \
        swap(&config->field, &fresh->field, sizeof config->field);                                 \
    } while (0)

/* All that is not TAKES_START or TAKES_SERVER: spec/unit/settings_spec.lua compares. */
static void take_over(struct config *config, struct config *fresh)
{
    SWAP(handlers);
    SWAP(handler_count);
    SWAP(lib);
    SWAP(lib_count);
    SWAP(json_big);
    SWAP(request_timeout_ns);
    SWAP(publish_timeout_ns);
    SWAP(publish_attempts);
    SWAP(publish_backoff_min_ns);
    SWAP(publish_backoff_max_ns);
    SWAP(graceful_timeout_ns);
    SWAP(limit_memory_bytes);
    SWAP(limit_cpu_ns);
    SWAP(limit_max_stuck);
    SWAP(limit_generations);
    SWAP(limit_offload_threads);
    SWAP(http_max_per_host);
    SWAP(watch);
    SWAP(trust);
    SWAP(admin_token);
    SWAP(log_level);
    SWAP(log_format);
    SWAP(settings_json);
    SWAP(warnings);
    SWAP(warning_count);
    SWAP(file);
}

static bool at_start(const struct config_leaf *leaf)
{
    return leaf->takes == TAKES_START || leaf->takes == TAKES_SERVER;
}

/* "2 -> 4", or "changed" where the values are not to be shown. */
static void format_change(char *buf, size_t size, const char *before, const char *now)
{
    if (*before || *now)
        snprintf(buf, size, "%s -> %s", before, now);
    else
        snprintf(buf, size, "changed");
}

bool config_waits(const struct config_leaf *leaf, bool private_server, char *buf, size_t size)
{
    char change[400];
    if (!leaf->started_value || (private_server && leaf->takes == TAKES_SERVER))
        return false;
    format_change(change, sizeof change, leaf->started_shown, leaf->shown);
    snprintf(buf, size, "%s: %s takes effect at the next start", leaf->key, change);
    return true;
}

/* Remembers what runs while something else is stated. */
static void keep_started(struct config_leaf *leaf, const struct config_leaf *fresh)
{
    if (!leaf->started_value) {
        leaf->started_value = strdup(leaf->value);
        leaf->started_shown = strdup(leaf->shown);
    } else if (same(leaf->started_value, fresh->value)) {
        free(leaf->started_value);
        free(leaf->started_shown);
        leaf->started_value = leaf->started_shown = NULL;
    }
}

/* Gives the leaf the value of fresh; line: the text for the log. */
static void change(struct config_leaf *leaf, struct config_leaf *fresh, bool private_server,
                   char *line, size_t size)
{
    char text[400];
    if (at_start(leaf))
        keep_started(leaf, fresh);
    format_change(text, sizeof text, leaf->shown, fresh->shown);
    swap(&leaf->value, &fresh->value, sizeof leaf->value);
    swap(&leaf->shown, &fresh->shown, sizeof leaf->shown);
    if (!config_waits(leaf, private_server, line, size))
        snprintf(line, size, "%s: %s%s", leaf->key, text, at_start(leaf) ? ", as it runs" : "");
}

struct config_change config_adopt(struct config *config, struct config *fresh, bool private_server,
                                  void (*tell)(void *owner, const char *line), void *owner)
{
    struct config_change changes = {0};
    char line[1000];
    for (int i = 0; i < config->leaf_count && i < fresh->leaf_count; i++) {
        struct config_leaf *leaf = &config->leaves[i];
        if (same(leaf->value, fresh->leaves[i].value))
            continue;
        bool quiet = private_server && leaf->takes == TAKES_SERVER;
        change(leaf, &fresh->leaves[i], private_server, line, sizeof line);
        changes.any = changes.any || !quiet;
        changes.scripts = changes.scripts || leaf->takes == TAKES_SCRIPTS;
        changes.handlers = changes.handlers || same(leaf->key, "handlers");
        changes.watch = changes.watch || same(leaf->key, "watch");
        if (!quiet)
            tell(owner, line);
    }
    take_over(config, fresh);
    return changes;
}
