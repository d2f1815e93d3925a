/* sim_cpu - the watchdog's part where time is simulated: it stands while Lua computes, so the CPU's
 * own time is asked, by a timer that counts it, and its signal. */
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "base/value.h"
#include "sim/sim.h"
#include "vm/guard.h"

#define TICK_US 10000

/* Of the process, as its timer is. */
static struct guard *outer;
static void (*tell_lost)(void);

static void on_tick(int number)
{
    (void)number;
    if (guard_tick(TICK_US * (int64_t)1000, outer) && tell_lost)
        tell_lost();
}

void sim_watch_cpu(struct guard *around, void (*on_lost)(void))
{
    outer = around;
    tell_lost = on_lost;
    struct sigaction action;
    const struct itimerval each = {{0, TICK_US}, {0, TICK_US}};
    memset(&action, 0, sizeof action);
    action.sa_handler = on_tick;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGURG); /* it comes afterwards, and finds the place in Lua */
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &each, NULL);
}
