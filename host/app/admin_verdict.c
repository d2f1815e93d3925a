/* admin_verdict - requests that wait for a reload or a drain, and their answers. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "app/admin_private.h"

void admin_suspend(struct visit *visit, struct MHD_Connection *connection, enum wait wait)
{
    visit->wait = wait;
    visit->connection = connection;
    MHD_suspend_connection(connection);
}

static void resume(struct admin *admin, struct visit *visit, int status, cJSON *body)
{
    visit->wait = WAIT_OVER;
    visit->status = status;
    visit->answer = body;
    admin->resumed = true;
    MHD_resume_connection(visit->connection);
}

bool admin_awaited(const struct admin *admin, enum wait wait)
{
    const struct visit *visit;
    DL_FOREACH(admin->visits, visit) {
        if (visit->wait == wait)
            return true;
    }
    return false;
}

void admin_resume_all(struct admin *admin, enum wait wait, int status, const cJSON *body)
{
    struct visit *visit;
    DL_FOREACH(admin->visits, visit) {
        if (visit->wait == wait)
            resume(admin, visit, status, cJSON_Duplicate(body, true));
    }
}

/* One verdict for each script, the last: what was refused may have been mended while somebody
 * waited. */
static void remove_older(cJSON *notes, const char *script)
{
    const cJSON *note;
    int at = 0;
    cJSON_ArrayForEach(note, notes) {
        if (strcmp(cJSON_GetObjectItem(note, "script")->valuestring, script) == 0) {
            cJSON_DeleteItemFromArray(notes, at);
            return;
        }
        at++;
    }
}

void admin_note(struct admin *admin, const char *script, bool refused, unsigned generation,
                double elapsed_ms, const char *text)
{
    if (!admin || !admin_awaited(admin, WAIT_RELOAD))
        return;
    if (!admin->notes)
        admin->notes = cJSON_CreateArray();
    remove_older(admin->notes, script);
    cJSON *note = cJSON_CreateObject();
    cJSON_AddStringToObject(note, "script", script);
    cJSON_AddBoolToObject(note, "refused", refused);
    cJSON_AddNumberToObject(note, "generation", generation);
    cJSON_AddNumberToObject(note, "elapsed_ms", elapsed_ms);
    cJSON_AddStringToObject(note, "message", text);
    cJSON_AddItemToArray(admin->notes, note);
}

static bool is_refused(const cJSON *note)
{
    return cJSON_IsTrue(cJSON_GetObjectItem(note, "refused"));
}

void admin_note_config(struct admin *admin, bool refused, const char *path, const char *line)
{
    if (!admin || !admin_awaited(admin, WAIT_RELOAD))
        return;
    char text[1600];
    snprintf(text, sizeof text, "%s: %s", path, line);
    if (!admin->config_notes)
        admin->config_notes = cJSON_CreateArray();
    cJSON *note = cJSON_CreateObject();
    cJSON_AddBoolToObject(note, "refused", refused);
    cJSON_AddStringToObject(note, "message", text);
    cJSON_AddItemToArray(admin->config_notes, note);
}

void admin_config_read(struct admin *admin)
{
    for (int i = admin ? cJSON_GetArraySize(admin->config_notes) : 0; i > 0; i--) {
        if (is_refused(cJSON_GetArrayItem(admin->config_notes, i - 1)))
            cJSON_DeleteItemFromArray(admin->config_notes, i - 1);
    }
}

static bool any_refused(const cJSON *notes)
{
    const cJSON *note;
    cJSON_ArrayForEach(note, notes) {
        if (is_refused(note))
            return true;
    }
    return false;
}

/* The list that somebody gets, which is empty then. */
static void hand_out(cJSON *body, const char *name, cJSON **notes)
{
    cJSON_AddItemToObject(body, name, *notes ? *notes : cJSON_CreateArray());
    *notes = NULL;
}

void admin_settled(struct admin *admin, bool stopping)
{
    if (!admin)
        return;
    bool ok = !stopping && !any_refused(admin->notes) && !any_refused(admin->config_notes);
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", ok);
    if (stopping)
        cJSON_AddStringToObject(body, "error", "the host is stopping");
    hand_out(body, "config", &admin->config_notes);
    hand_out(body, "scripts", &admin->notes);
    if (admin_awaited(admin, WAIT_RELOAD)) {
        admin_resume_all(admin, WAIT_RELOAD,
                         ok         ? MHD_HTTP_OK
                         : stopping ? MHD_HTTP_SERVICE_UNAVAILABLE
                                    : MHD_HTTP_CONFLICT,
                         body);
        admin_run_soon(admin);
    }
    cJSON_Delete(body);
}
