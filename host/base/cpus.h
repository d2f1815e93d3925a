/* cpus - how many processors this process may use: its CPU mask, and the quota of its container
 * (cgroups, v2 and v1), which a plain count of processors does not include. Any thread. */
#ifndef MOONBUS_BASE_CPUS_H
#define MOONBUS_BASE_CPUS_H

/* At least 1; a part of a processor counts as one. */
int cpus_available(void);

/* The smallest quota of the cgroups that `membership` (/proc/self/cgroup) names and of those above
 * them, as their files under `root` (/sys/fs/cgroup) state it: each of them binds. INT_MAX: none.
 */
int cpus_quota(const char *membership, const char *root);

#endif
