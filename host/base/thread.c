#include "base/thread.h"

#include <string.h>

void thread_block_signals(sigset_t *before)
{
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        sigdelset(&blocked, open[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *arg,
                 struct err *err)
{
    sigset_t before;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    thread_block_signals(&before);
    int failed = pthread_create(thread, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (failed)
        return err_set(err, ERR_SYSTEM, "cannot start the thread \"%s\": %s", name,
                       strerror(failed));
    pthread_setname_np(*thread, name);
    return 0;
}

void thread_mutex_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t adaptive;
    pthread_mutexattr_init(&adaptive);
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(mutex, &adaptive);
    pthread_mutexattr_destroy(&adaptive);
}
