/* process_stat - /proc and rlimits. */
#include "app/process_stat.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static double limit_of(int resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0)
        return 0;
    return limit.rlim_cur == RLIM_INFINITY ? -1 : (double)limit.rlim_cur;
}

static double seconds_of(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void read_memory(struct process_stat *stat)
{
    double pages = 0, resident = 0, page_bytes = (double)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return;
    if (fscanf(file, "%lf %lf", &pages, &resident) == 2) {
        stat->virtual_bytes = pages * page_bytes;
        stat->resident_bytes = resident * page_bytes;
    }
    fclose(file);
}

static double count_fds(void)
{
    double count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 3; /* ".", "..", and the folder's own */
}

void process_stat(struct process_stat *stat)
{
    struct rusage usage;
    *stat = (struct process_stat){0};
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        stat->cpu_s = seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime);
    read_memory(stat);
    stat->virtual_most_bytes = limit_of(RLIMIT_AS);
    stat->open_fds = count_fds();
    stat->fds_most = limit_of(RLIMIT_NOFILE);
}
