/* spawn - how specs start a process: by vfork, which copies nothing of the runner. After a fork
 * each of the two has its pages to itself again one by one, as it writes to them, and that takes
 * twice as long as it takes a small program to start. For spec/support/process.lua. Never
 * sanitized. */
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int spawn(const char *folder, const int streams[3], char *const *argv, char *const *env);

/* The new process has the runner's memory until it is another program, while the thread that has
 * called this waits: it changes nothing but what the kernel keeps for it. */
__attribute__((noreturn)) static void become(pid_t parent, const char *folder, const int streams[3],
                                             char *const *argv, char *const *env)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || (folder && chdir(folder) != 0))
        _exit(126);
    signal(SIGPIPE, SIG_DFL); /* nats.c ignores it in the runner */
    for (int i = 0; i < 3; i++)
        dup2(streams[i], i);
    close_range(3, ~0U, 0);
    execvpe(argv[0], argv, env);
    _exit(127);
}

/* Starts argv[0] in the folder (NULL: the runner's), with these as its standard streams and no
 * other file. It leads a group of its own, and the kernel kills it when the runner dies. Its id;
 * -1: errno says why there is none. */
int spawn(const char *folder, const int streams[3], char *const *argv, char *const *env)
{
    pid_t parent = getpid(), pid = vfork();
    if (pid == 0)
        become(parent, folder, streams, argv, env);
    return pid;
}
