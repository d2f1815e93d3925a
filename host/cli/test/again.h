/* again - moonbus test --watch: runs the tests in a process of their own, and once more whenever a
 * file changes: *.lua and *.json below the paths that were named, the handlers' folders, lib,
 * ./test and ./tests, and the config file. A run that is under way then is ended first. SIGINT and
 * SIGTERM end it all, with status 0. Looks at the files' times five times a second.
 *
 * On the main thread, before any other is there. */
#ifndef MOONBUS_CLI_TEST_AGAIN_H
#define MOONBUS_CLI_TEST_AGAIN_H

struct cli;

/* once: runs the tests, in a child; its status is the run's. */
int again_run(struct cli *cli, int (*once)(struct cli *cli));

#endif
