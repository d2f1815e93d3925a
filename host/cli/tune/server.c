/* The private server: started in a folder of its own, emptied for each round, and gone at the end.
 */
#include "cli/tune/server.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/value.h"
#include "bus/link/library.h"
#include "bus/link/nats_reason.h"

#define CALL_MS 10000
#define LIBRARY_END_MS 2000

/* --- its life --- */

/* nats.c's own prints to standard error. What is refused is seen by the answers. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)nc;
    (void)sub;
    (void)status;
    (void)closure;
}

int tune_server_connect(struct tune_server *server, struct err *err)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK)
        status = natsOptions_SetURL(options, tune_server_url(server));
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(options, on_error, NULL);
    if (status == NATS_OK)
        status = natsOptions_SetMaxReconnect(options, -1);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectWait(options, 50);
    if (status == NATS_OK)
        status = natsConnection_Connect(&server->nc, options);
    natsOptions_Destroy(options);
    if (status != NATS_OK)
        return err_set(err, ERR_DISCONNECTED, "cannot connect to %s: %s", tune_server_url(server),
                       nats_reason(status));
    return 0;
}

int tune_server_start(struct tune_server *server, const char *binary, struct err *err)
{
    *server = (struct tune_server){.nc = NULL};
    return private_server_start(&server->own, "tune", binary, NULL, err);
}

void tune_server_stop(struct tune_server *server)
{
    if (!server->own.begun)
        return;
    natsConnection_Destroy(server->nc);
    private_server_stop(&server->own);
    library_end(LIBRARY_END_MS);
    *server = (struct tune_server){.nc = NULL};
}

const char *tune_server_url(const struct tune_server *server)
{
    return private_server_url(&server->own);
}

void tune_server_look(struct tune_server *server)
{
    private_server_look(&server->own);
}

/* --- JetStream's API --- */

/* The answer, the caller's; NULL with err. */
static cJSON *call(struct tune_server *server, const char *operation, const char *body,
                   struct err *err)
{
    char subject[400];
    natsMsg *reply = NULL;
    snprintf(subject, sizeof subject, "$JS.API.%s", operation);
    natsStatus status = natsConnection_RequestString(&reply, server->nc, subject, body, CALL_MS);
    if (status != NATS_OK) {
        err_set(err, ERR_DISCONNECTED, "%s: %s", operation, natsStatus_GetText(status));
        return NULL;
    }
    cJSON *answer =
        cJSON_ParseWithLength(natsMsg_GetData(reply), (size_t)natsMsg_GetDataLength(reply));
    natsMsg_Destroy(reply);
    const cJSON *error = json_field(answer, "error");
    if (answer && !error)
        return answer;
    err_set(err, ERR_API, "%s: %s", operation, json_text_or(error, "description", "no JSON"));
    cJSON_Delete(answer);
    return NULL;
}

static int delete_all(struct tune_server *server, struct err *err)
{
    for (;;) {
        cJSON *names = call(server, "STREAM.NAMES", "", err);
        const cJSON *name, *list = json_field(names, "streams");
        int code = names ? 0 : (int)err->code;
        bool any = cJSON_GetArraySize(list) > 0;
        cJSON_ArrayForEach(name, list) {
            char operation[300];
            snprintf(operation, sizeof operation, "STREAM.DELETE.%s", name->valuestring);
            cJSON *answer = code ? NULL : call(server, operation, "", err);
            code = answer ? 0 : (int)err->code;
            cJSON_Delete(answer);
        }
        cJSON_Delete(names);
        if (code || !any)
            return code;
    }
}

int tune_server_renew(struct tune_server *server, const cJSON *streams, struct err *err)
{
    const cJSON *stream;
    int code = delete_all(server, err);
    cJSON_ArrayForEach(stream, streams) {
        char operation[300];
        char *body = cJSON_PrintUnformatted(stream);
        snprintf(operation, sizeof operation, "STREAM.CREATE.%s", json_text_or(stream, "name", ""));
        cJSON *answer = code || !body ? NULL : call(server, operation, body, err);
        if (!code && !answer) {
            err_prefix(err, "a stream for the test");
            code = (int)err->code;
        }
        cJSON_Delete(answer);
        cJSON_free(body);
    }
    return code;
}
