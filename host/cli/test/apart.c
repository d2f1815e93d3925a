/* apart - see apart.h. */
#include "cli/test/apart.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cli/cli.h"

pid_t apart_start(struct cli *cli, int (*once)(struct cli *cli), const sigset_t *mask)
{
    fflush(NULL);
    pid_t parent = getpid(), child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CLI_FAILED);
    sigprocmask(SIG_SETMASK, mask, NULL);
    int status = once(cli);
    fflush(NULL);
    _exit(status);
}
