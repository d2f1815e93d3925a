/* cpus - how many processors this process may use: what the scheduler gives it, and the quota of
 * its container (cgroup v2, cpu.max), which a plain count of processors does not see. */
#ifndef MOONBUS_APP_CPUS_H
#define MOONBUS_APP_CPUS_H

/* At least 1; a part of a processor counts as one. */
int cpus_available(void);

#endif
