/* Processors counted as the scheduler and the container allow them. */
#include "base/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The quota as processors, rounded up; INT_MAX for none. */
static int processors(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return INT_MAX;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* Up to two numbers of the file folder/name. Returns how many there were. */
static int read_numbers(const char *folder, const char *name, long long *first, long long *second)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int count = fscanf(file, "%lld %lld", first, second);
    fclose(file);
    return count;
}

/* v2 has both in one file ("max 100000": none), v1 in two (-1: none). */
static int quota_of(const char *folder)
{
    long long quota = 0, period = 0, rest;
    if (read_numbers(folder, "cpu.max", &quota, &period) == 2)
        return processors(quota, period);
    if (read_numbers(folder, "cpu.cfs_quota_us", &quota, &rest) < 1 ||
        read_numbers(folder, "cpu.cfs_period_us", &period, &rest) < 1)
        return INT_MAX;
    return processors(quota, period);
}

/* The group's folder, in a buffer of PATH_MAX. In a container the path may be the machine's, of
 * which the hierarchy shows only what is below the container's own group: so the longest end of the
 * path that is there counts, or the topmost folder, which is that group's. False: too long. */
static bool find_folder(char *folder, const char *hierarchy, const char *path)
{
    for (const char *end = path; end; end = strchr(end + 1, '/')) {
        if (snprintf(folder, PATH_MAX, "%s%s", hierarchy, end) >= PATH_MAX)
            return false;
        if (access(folder, F_OK) == 0)
            return true;
    }
    return snprintf(folder, PATH_MAX, "%s", hierarchy) < PATH_MAX;
}

/* The least quota of hierarchy/path and of all folders above it. */
static int least_quota(const char *hierarchy, const char *path)
{
    char folder[PATH_MAX];
    size_t top = strlen(hierarchy);
    int least = INT_MAX;
    if (!find_folder(folder, hierarchy, path))
        return INT_MAX;
    for (;;) {
        int quota = quota_of(folder);
        if (quota < least)
            least = quota;
        char *slash = strrchr(folder, '/');
        if (!slash || slash < folder + top)
            return least;
        *slash = '\0';
    }
}

static bool lists_cpu(const char *controllers)
{
    char list[256];
    if (snprintf(list, sizeof list, "%s", controllers) >= (int)sizeof list)
        return false;
    char *rest = list;
    for (char *each; (each = strsep(&rest, ","));) {
        if (strcmp(each, "cpu") == 0)
            return true;
    }
    return false;
}

static int quota_below(const char *root, const char *name, const char *path)
{
    char hierarchy[PATH_MAX];
    if (snprintf(hierarchy, sizeof hierarchy, "%s%s%s", root, *name ? "/" : "", name) >=
        (int)sizeof hierarchy)
        return INT_MAX;
    return least_quota(hierarchy, path);
}

/* "0::/path" is v2, at the root or, beside v1, in unified/. "4:cpu,cpuacct:/path" is v1, whose
 * folder has that name, or there is a link of the name of each. */
static int quota_of_line(char *line, const char *root)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return INT_MAX;
    *path++ = '\0';
    controllers++;
    bool unified = !*controllers;
    if (!unified && !lists_cpu(controllers))
        return INT_MAX;
    int first = quota_below(root, unified ? "" : "cpu", path);
    int second = quota_below(root, unified ? "unified" : controllers, path);
    return first < second ? first : second;
}

int cpus_quota(const char *membership, const char *root)
{
    char line[PATH_MAX];
    int least = INT_MAX;
    FILE *file = fopen(membership, "re");
    if (!file)
        return INT_MAX;
    while (fgets(line, sizeof line, file)) {
        int quota = quota_of_line(line, root);
        if (quota < least)
            least = quota;
    }
    fclose(file);
    return least;
}

int cpus_available(void)
{
    cpu_set_t set;
    int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = cpus_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota < cpus)
        cpus = quota;
    return cpus > 0 ? cpus : 1;
}
