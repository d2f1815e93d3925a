/* apart - a process of its own for the tests of `moonbus test`, which ends with the one that has
 * made it. */
#ifndef MOONBUS_CLI_TEST_APART_H
#define MOONBUS_CLI_TEST_APART_H

#include <signal.h>
#include <sys/types.h>

struct cli;

/* Its exit status is that of `once`, and mask what it blocks. -1: there can be none. */
pid_t apart_start(struct cli *cli, int (*once)(struct cli *cli), const sigset_t *mask);

#endif
