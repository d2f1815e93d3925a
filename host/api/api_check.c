/* api_check - values of options, judged as everywhere in the host; for moonbus.options. */
#include <math.h>
#include <string.h>

#include "api/api.h"
#include "base/cron.h"
#include "base/value.h"
#include "base/zone.h"

/* core.size(value): bytes, or nil and a sentence. */
static int core_size(lua_State *L)
{
    int64_t bytes = 0;
    struct err err = {0};
    char shown[NUMBER_SHOWN];
    size_t len;
    if (lua_type(L, 1) == LUA_TNUMBER) {
        double number = lua_tonumber(L, 1);
        if (number >= 0 && number <= 9007199254740992.0 && number == floor(number))
            bytes = (int64_t)number;
        else
            err_set(&err, ERR_INVALID,
                    "%s is not a size: write \"64KB\", \"64MB\", \"1GB\" or "
                    "a whole number of bytes",
                    number_show(number, shown));
    } else if (lua_type(L, 1) == LUA_TSTRING) {
        const char *text = lua_tolstring(L, 1, &len);
        value_size(text, len, &bytes, &err);
    } else {
        err_set(&err, ERR_INVALID, "expected a size like \"64MB\", or a number of bytes, got %s",
                api_type_name(L, 1));
    }
    if (err.code != ERR_NONE) {
        lua_pushnil(L);
        lua_pushstring(L, err.message);
        return 2;
    }
    lua_pushnumber(L, (double)bytes);
    return 1;
}

/* core.check_subject(text, wildcards): nil, or what is wrong with it. */
static int core_check_subject(lua_State *L)
{
    size_t len;
    const char *subject = luaL_checklstring(L, 1, &len);
    struct err err;
    if (subject_check(subject, len, lua_toboolean(L, 2) ? SUBJECT_SUBSCRIBE : SUBJECT_PUBLISH,
                      &err) == 0)
        return 0;
    lua_pushstring(L, err.message);
    return 1;
}

/* core.check_name(what, text): nil, or what is wrong with it. */
static int core_check_name(lua_State *L)
{
    size_t len;
    const char *what = luaL_checkstring(L, 1);
    const char *name = luaL_checklstring(L, 2, &len);
    struct err err;
    if (name_check(what, name, len, &err) == 0)
        return 0;
    lua_pushstring(L, err.message);
    return 1;
}

/* core.check_cron(line): nil, or what is wrong with it. */
static int core_check_cron(lua_State *L)
{
    size_t len;
    const char *line = luaL_checklstring(L, 1, &len);
    struct cron cron;
    struct err err;
    if (cron_parse(line, len, &cron, &err) == 0)
        return 0;
    lua_pushstring(L, err.message);
    return 1;
}

/* core.check_zone(name): likewise. */
static int core_check_zone(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    struct err err;
    struct zone *zone = zone_open(strlen(name) == len ? name : "", &err);
    if (zone) {
        zone_release(zone);
        return 0;
    }
    lua_pushstring(L, err.message);
    return 1;
}

/* A line and a zone, at 1 and 2, which have been checked. The zone is the caller's. */
static struct zone *read_times(lua_State *L, struct cron *cron)
{
    size_t len;
    struct err err;
    const char *line = luaL_checklstring(L, 1, &len);
    struct zone *zone = zone_open(luaL_checkstring(L, 2), &err);
    if (!zone || cron_parse(line, len, cron, &err) != 0) {
        zone_release(zone);
        api_misuse(L, "%s", err.message);
    }
    return zone;
}

static int push_time(lua_State *L, int64_t time)
{
    if (time == CRON_NEVER)
        return 0;
    lua_pushnumber(L, (double)time);
    return 1;
}

/* core.cron_next(line, zone, after): the first time after that; nothing: never. */
static int core_cron_next(lua_State *L)
{
    struct cron cron;
    int64_t after = (int64_t)luaL_checknumber(L, 3);
    struct zone *zone = read_times(L, &cron);
    int64_t time = cron_next(&cron, zone, after);
    zone_release(zone);
    return push_time(L, time);
}

/* core.cron_last(line, zone, after, until): the last time after that, up to then; nothing: none. */
static int core_cron_last(lua_State *L)
{
    struct cron cron;
    int64_t after = (int64_t)luaL_checknumber(L, 3), until = (int64_t)luaL_checknumber(L, 4);
    struct zone *zone = read_times(L, &cron);
    int64_t time = cron_last(&cron, zone, after, until);
    zone_release(zone);
    return push_time(L, time);
}

/* core.cron_format(line): as NATS' schedules have it; nothing: they have no such line. */
static int core_cron_format(lua_State *L)
{
    size_t len;
    struct cron cron;
    char line[CRON_LINE_BYTES];
    const char *text = luaL_checklstring(L, 1, &len);
    if (cron_parse(text, len, &cron, NULL) != 0 || !cron_format(&cron, line, sizeof line))
        return 0;
    lua_pushstring(L, line);
    return 1;
}

void api_check_open(lua_State *L)
{
    lua_pushcfunction(L, core_size);
    lua_setfield(L, -2, "size");
    lua_pushcfunction(L, core_check_subject);
    lua_setfield(L, -2, "check_subject");
    lua_pushcfunction(L, core_check_name);
    lua_setfield(L, -2, "check_name");
    lua_pushcfunction(L, core_check_cron);
    lua_setfield(L, -2, "check_cron");
    lua_pushcfunction(L, core_check_zone);
    lua_setfield(L, -2, "check_zone");
    lua_pushcfunction(L, core_cron_next);
    lua_setfield(L, -2, "cron_next");
    lua_pushcfunction(L, core_cron_last);
    lua_setfield(L, -2, "cron_last");
    lua_pushcfunction(L, core_cron_format);
    lua_setfield(L, -2, "cron_format");
    lua_pushinteger(L, CRON_LATE_S);
    lua_setfield(L, -2, "cron_late");
}
