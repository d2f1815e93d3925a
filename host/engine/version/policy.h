/* policy - what the config says of scripts, as far as a generation is built by it. A generation
 * keeps the policy that it was built by, so that its further instances are like its first; a reload
 * of the config makes a new one for the generations to come. Immutable; references, any thread. */
#ifndef MOONBUS_ENGINE_VERSION_POLICY_H
#define MOONBUS_ENGINE_VERSION_POLICY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy {
    atomic_int references;
    size_t memory_bytes; /* of one instance; 0: no limit */
    int64_t cpu_ns;      /* one resume; 0: no limit */
    char **lib;          /* owned, as its texts */
    int lib_count;
    bool trust;
    char *settings_json; /* owned; never NULL */
};

/* Copies what is stated (whose lib and settings are borrowed; settings_json NULL: {}). NULL when
 * out of memory. */
struct policy *policy_new(const struct policy *stated);
struct policy *policy_retain(struct policy *policy);
void policy_release(struct policy *policy); /* NULL is allowed */

#endif
