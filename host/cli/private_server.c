/* private_server - see private_server.h. */
#include "cli/private_server.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/child.h"
#include "base/clock.h"
#include "base/value.h"

#define START_NS (15 * NS_PER_S)
#define STOP_NS (3 * NS_PER_S)

/* --- the folder --- */

static int make_folder(struct private_server *server, struct err *err)
{
    const char *temporary = getenv("TMPDIR");
    snprintf(server->folder, sizeof server->folder, "%s/moonbus-%s-XXXXXX",
             temporary && *temporary ? temporary : "/tmp", server->command);
    if (mkdtemp(server->folder))
        return 0;
    err_set(err, ERR_SYSTEM, "cannot make the folder %s: %s", server->folder, strerror(errno));
    server->folder[0] = '\0';
    return ERR_SYSTEM;
}

static int on_path(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

static void remove_folder(const struct private_server *server)
{
    if (*server->folder && nftw(server->folder, on_path, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "moonbus %s: cannot remove %s: %s\n", server->command, server->folder,
                strerror(errno));
}

static int write_config(const char *path, const char *config, struct err *err)
{
    FILE *file = fopen(path, "we");
    bool ok = file && fputs(config, file) >= 0;
    if (file && fclose(file) != 0)
        ok = false;
    return ok ? 0 : err_set(err, ERR_SYSTEM, "cannot write %s: %s", path, strerror(errno));
}

/* --- its life --- */

int private_server_start(struct private_server *server, const char *command, const char *binary,
                         const char *config, struct err *err)
{
    char path[300];
    *server = (struct private_server){.begun = true, .command = command};
    uv_loop_init(&server->loop);
    int code = make_folder(server, err);
    snprintf(path, sizeof path, "%s/server.conf", server->folder);
    if (!code && config)
        code = write_config(path, config, err);
    if (code)
        return code;
    const struct child_options options = {
        .binary = binary, .apart = true, .folder = server->folder, .config = config ? path : NULL};
    server->child = child_start(&server->loop, &options, err);
    if (!server->child)
        return err->code;
    return child_wait_ready(server->child, clock_now_ns() + START_NS, err);
}

void private_server_stop(struct private_server *server)
{
    if (!server->begun)
        return;
    child_stop(server->child, clock_now_ns() + STOP_NS);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    uv_loop_close(&server->loop);
    remove_folder(server);
    *server = (struct private_server){0};
}

const char *private_server_url(const struct private_server *server)
{
    return child_url(server->child);
}

void private_server_look(struct private_server *server)
{
    uv_run(&server->loop, UV_RUN_NOWAIT);
}
