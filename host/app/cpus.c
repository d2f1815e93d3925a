#include "app/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* The quota that one cpu.max states, rounded up; INT_MAX for none. */
static int quota_of(const char *path)
{
    char file_path[PATH_MAX];
    snprintf(file_path, sizeof file_path, "/sys/fs/cgroup%s/cpu.max", path);
    FILE *file = fopen(file_path, "re");
    if (!file)
        return INT_MAX;
    long long quota = 0, period = 0;
    int read = fscanf(file, "%lld %lld", &quota, &period);
    fclose(file);
    if (read != 2 || quota <= 0 || period <= 0) /* "max 100000" */
        return INT_MAX;
    long long cpus = (quota + period - 1) / period;
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* The smallest quota of our cgroup and those above it: each of them binds. */
static int cgroup_quota(void)
{
    char path[PATH_MAX] = "";
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return INT_MAX;
    char line[PATH_MAX];
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::", 3) == 0)
            snprintf(path, sizeof path, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    }
    fclose(file);
    if (strcmp(path, "/") == 0)
        path[0] = '\0';
    int least = quota_of(path);
    for (char *slash = strrchr(path, '/'); slash; slash = strrchr(path, '/')) {
        *slash = '\0';
        int quota = quota_of(path);
        if (quota < least)
            least = quota;
    }
    return least;
}

int cpus_available(void)
{
    cpu_set_t set;
    int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = cgroup_quota();
    if (quota < cpus)
        cpus = quota;
    return cpus > 0 ? cpus : 1;
}
