/* live - the real server of `moonbus test --server`, and who is beside the host at it.
 *
 *   live_run: the parent has the server ── fork ─▶ runs the tests: live_open for each script
 *
 * Each script that is loaded has an account of the server for itself, which is emptied before the
 * next one has it: so each has a server of its own, as in a simulated world. */
#ifndef MOONBUS_CLI_TEST_LIVE_H
#define MOONBUS_CLI_TEST_LIVE_H

#include "base/err.h"
#include "sim/sim.h"

struct cli;
struct live_client;

/* Starts a server, runs `once` in a process of its own, whose exit status it returns, and ends the
 * server, also when it is told to end meanwhile (Ctrl-C). */
int live_run(struct cli *cli, int (*once)(struct cli *cli));
/* In that process: is there a server? */
bool live_is_on(void);

/* Connects to an account that is free. NULL with err. The test's thread; its calls are as of struct
 * sim_outside. */
struct live_client *live_open(struct err *err);
const struct sim_outside *live_outside(const struct live_client *client);
/* The account is free again, if the host has left it. */
void live_close(struct live_client *client, bool left);

#endif
