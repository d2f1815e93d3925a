/* process_stat - what the operating system says of this process, for the metrics. Any thread. */
#ifndef MOONBUS_APP_PROCESS_STAT_H
#define MOONBUS_APP_PROCESS_STAT_H

/* 0 where the system does not say it. */
struct process_stat {
    double cpu_s; /* user and system */
    double resident_bytes, virtual_bytes, virtual_most_bytes;
    double open_fds, fds_most;
};

void process_stat(struct process_stat *stat);

#endif
