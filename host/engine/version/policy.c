/* policy - copied, counted, freed. */
#include "engine/version/policy.h"

#include <stdlib.h>
#include <string.h>

static bool copy_lib(struct policy *policy, const struct policy *stated)
{
    policy->lib = calloc((size_t)stated->lib_count + 1, sizeof *policy->lib);
    for (int i = 0; policy->lib && i < stated->lib_count; i++) {
        policy->lib[i] = strdup(stated->lib[i]);
        if (!policy->lib[i])
            return false;
        policy->lib_count++;
    }
    return policy->lib != NULL;
}

struct policy *policy_new(const struct policy *stated)
{
    struct policy *policy = calloc(1, sizeof *policy);
    if (!policy)
        return NULL;
    atomic_init(&policy->references, 1);
    policy->memory_bytes = stated->memory_bytes;
    policy->cpu_ns = stated->cpu_ns;
    policy->trust = stated->trust;
    policy->settings_json = strdup(stated->settings_json ? stated->settings_json : "{}");
    if (copy_lib(policy, stated) && policy->settings_json)
        return policy;
    policy_release(policy);
    return NULL;
}

struct policy *policy_retain(struct policy *policy)
{
    atomic_fetch_add_explicit(&policy->references, 1, memory_order_relaxed);
    return policy;
}

void policy_release(struct policy *policy)
{
    if (!policy || atomic_fetch_sub_explicit(&policy->references, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < policy->lib_count; i++)
        free(policy->lib[i]);
    free(policy->lib);
    free(policy->settings_json);
    free(policy);
}
