/* api_load - what a script says while it loads: what it handles, and its limits.
 *
 * A registration is built from a table that moonbus.options has checked. It hangs on a userdata
 * until the engine takes it: whatever raises in between frees it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/value.h"
#include "engine/generation.h"

#define DRAFT_METATABLE "moonbus.registration"
#define JSON_DEPTH_MAX 32

static const struct {
    const char *name, *binding;
} kinds[] = {
    [REGISTER_STREAM] = {"stream", "js.stream"},
    [REGISTER_SUBSCRIBE] = {"subscribe", "bus.subscribe"},
    [REGISTER_CONSUME] = {"consume", "js.consume"},
    [REGISTER_EVERY] = {"every", "bus.every"},
    [REGISTER_AFTER] = {"after", "bus.after"},
    [REGISTER_START] = {"start", "bus.on"},
    [REGISTER_STOP] = {"stop", "bus.on"},
};

/* Reading the spec: raw, so that no script's code runs ---------------------------------------- */

/* Pushes the field; the caller pops it. */
static int push_field(lua_State *L, int table, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, table);
    return lua_type(L, -1);
}

static char *copy_text(lua_State *L, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        luaL_error(L, "not enough memory");
    return copy;
}

static char *text_field(lua_State *L, int table, const char *name)
{
    char *text = NULL;
    if (push_field(L, table, name) == LUA_TSTRING)
        text = copy_text(L, lua_tostring(L, -1));
    lua_pop(L, 1);
    return text;
}

static double number_field(lua_State *L, int table, const char *name, double otherwise)
{
    double number = otherwise;
    if (push_field(L, table, name) == LUA_TNUMBER)
        number = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

static int64_t duration_field(lua_State *L, int table, const char *name)
{
    return llround(number_field(L, table, name, 0) * (double)NS_PER_S);
}

static bool flag_field(lua_State *L, int table, const char *name)
{
    push_field(L, table, name);
    bool flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

/* Tables as JSON ------------------------------------------------------------------------------ */

/* The table on top of the stack: an empty one is an object, unless NATS wants a list there. */
static bool is_list(lua_State *L, const char *name)
{
    static const char *const lists[] = {"subjects",           "sources",         "tags",
                                        "subject_transforms", "filter_subjects", "priority_groups"};
    if (lua_objlen(L, -1) > 0)
        return true;
    lua_pushnil(L);
    if (lua_next(L, -2)) {
        lua_pop(L, 2);
        return false;
    }
    for (size_t i = 0; name && i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(lists[i], name) == 0)
            return true;
    }
    return false;
}

static cJSON *scalar_json(lua_State *L)
{
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        return cJSON_CreateString(lua_tostring(L, -1));
    case LUA_TNUMBER:
        return cJSON_CreateNumber(lua_tonumber(L, -1));
    case LUA_TBOOLEAN:
        return cJSON_CreateBool(lua_toboolean(L, -1));
    default:
        return NULL;
    }
}

static bool add_json(cJSON *parent, const char *name, cJSON *item)
{
    bool added =
        name ? cJSON_AddItemToObject(parent, name, item) : cJSON_AddItemToArray(parent, item);
    if (!added)
        cJSON_Delete(item);
    return added;
}

static bool fill_json(lua_State *L, cJSON *parent, int depth);

/* Adds the value on top of the stack and pops it. name: NULL in a list. */
static bool add_value(lua_State *L, cJSON *parent, const char *name, int depth)
{
    bool is_table = lua_type(L, -1) == LUA_TTABLE;
    cJSON *item = !is_table          ? scalar_json(L)
                  : is_list(L, name) ? cJSON_CreateArray()
                                     : cJSON_CreateObject();
    bool ok = item && add_json(parent, name, item);
    if (ok && is_table)
        ok = fill_json(L, item, depth + 1);
    lua_pop(L, 1);
    return ok;
}

/* Adds what is in the table on top of the stack. Stack slots were made sure of; nothing here
 * raises. */
static bool fill_json(lua_State *L, cJSON *parent, int depth)
{
    int table = lua_gettop(L);
    bool ok = depth < JSON_DEPTH_MAX;
    if (cJSON_IsArray(parent)) {
        int count = (int)lua_objlen(L, table);
        for (int i = 1; ok && i <= count; i++) {
            lua_rawgeti(L, table, i);
            ok = add_value(L, parent, NULL, depth);
        }
        return ok;
    }
    lua_pushnil(L);
    while (ok && lua_next(L, table)) {
        if (lua_type(L, -2) == LUA_TSTRING)
            ok = add_value(L, parent, lua_tostring(L, -2), depth);
        else
            ok = false;
    }
    lua_settop(L, table);
    return ok;
}

/* The table at index into *out, which its registration owns from the start. */
static void table_to_json(lua_State *L, int index, const char *binding, cJSON **out)
{
    luaL_checkstack(L, 4 * JSON_DEPTH_MAX, "too many values");
    *out = cJSON_CreateObject();
    lua_pushvalue(L, index);
    if (!*out || !fill_json(L, *out, 0))
        api_misuse(L, "%s: a setting is nested too deep, or is a table with both names and places",
                   binding);
    lua_pop(L, 1);
}

/* Filling a registration ---------------------------------------------------------------------- */

/* How people call it. */
static void set_names(lua_State *L, struct registration *r, const char *what, const char *format,
                      ...) __attribute__((format(printf, 4, 5)));

static void set_names(lua_State *L, struct registration *r, const char *what, const char *format,
                      ...)
{
    char handler[600];
    va_list args;
    va_start(args, format);
    vsnprintf(handler, sizeof handler, format, args);
    va_end(args);
    r->handler = copy_text(L, handler);
    r->what = copy_text(L, what);
}

static void fill_subscribe(lua_State *L, struct registration *r)
{
    r->subject = text_field(L, 2, "subject");
    r->queue = text_field(L, 2, "queue");
    char *drop = text_field(L, 2, "drop");
    r->drop_old = drop && strcmp(drop, "old") == 0;
    free(drop);
    r->timeout_ns = duration_field(L, 2, "timeout");
    r->concurrency = (int)number_field(L, 2, "concurrency", 0);
    set_names(L, r, "request/reply", "%s", r->subject);
}

static void fill_timer(lua_State *L, struct registration *r)
{
    char period[32];
    r->period_ns = duration_field(L, 2, "period");
    set_names(L, r, "timer", "%s %s", kinds[r->kind].name,
              value_format_duration(r->period_ns, period, sizeof period));
}

static void fill_stream(lua_State *L, struct registration *r)
{
    table_to_json(L, 2, kinds[r->kind].binding, &r->stream);
    push_field(L, 2, "name");
    set_names(L, r, "stream", "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* The filters, and their names as the greeting shows them. */
static void fill_filters(lua_State *L, struct registration *r)
{
    struct consumer_spec *consumer = &r->consumer;
    push_field(L, 2, "filters");
    int count = (int)lua_objlen(L, -1);
    const char **filters = calloc((size_t)count + 1, sizeof *filters);
    if (!filters)
        luaL_error(L, "not enough memory");
    consumer->filters = filters;
    luaL_Buffer shown;
    luaL_buffinit(L, &shown);
    for (int i = 0; i < count; i++) {
        push_field(L, 2, "filters");
        lua_rawgeti(L, -1, i + 1);
        filters[i] = copy_text(L, lua_tostring(L, -1));
        lua_pop(L, 2);
        consumer->filter_count = i + 1;
        luaL_addstring(&shown, i ? ", " : "");
        luaL_addstring(&shown, filters[i]);
    }
    if (count == 0)
        luaL_addstring(&shown, "all subjects");
    luaL_pushresult(&shown);
    set_names(L, r, lua_tostring(L, -1), "%s/%s", consumer->stream, consumer->durable);
    lua_pop(L, 2);
}

static void fill_deliver(lua_State *L, struct consumer_spec *consumer)
{
    static const char *const names[] = {
        [DELIVER_ALL] = "all",           [DELIVER_NEW] = "new",   [DELIVER_LAST] = "last",
        [DELIVER_SEQUENCE] = "sequence", [DELIVER_TIME] = "time",
    };
    push_field(L, 2, "deliver");
    int deliver = lua_gettop(L);
    push_field(L, deliver, "from");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], lua_tostring(L, -1)) == 0)
            consumer->deliver = (enum deliver_from)i;
    }
    consumer->deliver_sequence = (uint64_t)number_field(L, deliver, "sequence", 0);
    consumer->deliver_time = text_field(L, deliver, "time");
    lua_settop(L, deliver - 1);
}

static void fill_backoff(lua_State *L, struct backoff *backoff)
{
    push_field(L, 2, "backoff");
    int table = lua_gettop(L);
    backoff->min_ns = duration_field(L, table, "min");
    backoff->max_ns = duration_field(L, table, "max");
    backoff->factor = number_field(L, table, "factor", 2);
    backoff->jitter = number_field(L, table, "jitter", 0);
    lua_pop(L, 1);
}

static void fill_order(lua_State *L, struct registration *r)
{
    if (push_field(L, 2, "order_by") == LUA_TTABLE) {
        int table = lua_gettop(L);
        push_field(L, table, "by");
        const char *by = lua_tostring(L, -1);
        r->order = strcmp(by, "subject") == 0 ? ORDER_SUBJECT
                   : strcmp(by, "token") == 0 ? ORDER_TOKEN
                                              : ORDER_HEADER;
        r->order_token = (int)number_field(L, table, "token", 0);
        r->order_header = text_field(L, table, "header");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Credit is counted in messages: a handler may have a whole batch of them. */
#define BATCHED_MOST 65536

static void fill_batch(lua_State *L, struct registration *r)
{
    if (push_field(L, 2, "batch") == LUA_TTABLE) {
        int table = lua_gettop(L);
        r->batch_size = (int)number_field(L, table, "size", 1);
        r->batch_wait_ns = duration_field(L, table, "wait");
        int64_t messages = (int64_t)r->concurrency * r->batch_size;
        r->consumer.concurrency = (int)(messages < BATCHED_MOST ? messages : BATCHED_MOST);
    }
    lua_pop(L, 1);
}

static void fill_consume(lua_State *L, struct registration *r)
{
    struct consumer_spec *consumer = &r->consumer;
    consumer->stream = text_field(L, 2, "stream");
    consumer->durable = text_field(L, 2, "durable");
    fill_filters(L, r);
    consumer->ack_wait_ns = duration_field(L, 2, "ack_wait");
    consumer->ack_wait_stated = flag_field(L, 2, "ack_wait_stated");
    consumer->max_ack_pending = (int)number_field(L, 2, "max_ack_pending", 0);
    consumer->max_ack_pending_stated = consumer->max_ack_pending != 0;
    consumer->concurrency = (int)number_field(L, 2, "concurrency", 0);
    consumer->bind = flag_field(L, 2, "bind");
    consumer->update = flag_field(L, 2, "update");
    fill_deliver(L, consumer);
    if (push_field(L, 2, "consumer") == LUA_TTABLE) {
        table_to_json(L, lua_gettop(L), kinds[r->kind].binding, &r->extra);
        consumer->extra = r->extra;
    }
    lua_pop(L, 1);
    r->timeout_ns = duration_field(L, 2, "timeout");
    r->concurrency = consumer->concurrency;
    r->attempts = (int)number_field(L, 2, "attempts", 0);
    fill_backoff(L, &r->backoff);
    r->dead_letter = text_field(L, 2, "dead_letter");
    fill_order(L, r);
    fill_batch(L, r);
}

static void fill(lua_State *L, struct registration *r)
{
    switch (r->kind) {
    case REGISTER_STREAM:
        fill_stream(L, r);
        return;
    case REGISTER_SUBSCRIBE:
        fill_subscribe(L, r);
        return;
    case REGISTER_CONSUME:
        fill_consume(L, r);
        return;
    case REGISTER_EVERY:
    case REGISTER_AFTER:
        fill_timer(L, r);
        return;
    case REGISTER_START:
    case REGISTER_STOP:
        set_names(L, r, "hook", "on %s", kinds[r->kind].name);
        return;
    }
}

/* The bindings -------------------------------------------------------------------------------- */

static struct loading *check_loading(lua_State *L, const char *binding)
{
    struct loading *loading = instance_of(L)->loading;
    if (!loading)
        api_misuse(L, "%s: only while the script loads (register at the top level)", binding);
    return loading;
}

/* One durable, one handler: of two, each would get some of the messages. */
static void check_durable(lua_State *L, const struct loading *loading, const struct registration *r)
{
    for (int i = 0; r->kind == REGISTER_CONSUME && i < loading->count; i++) {
        const struct registration *other = loading->items[i];
        if (other->kind == REGISTER_CONSUME && strcmp(other->handler, r->handler) == 0)
            api_misuse(L,
                       "js.consume: the durable \"%s\" of %s has a handler already (%s:%d): give "
                       "this one a durable of its own",
                       r->consumer.durable, r->consumer.stream, other->file, other->line);
    }
}

static int collect_draft(lua_State *L)
{
    struct registration **draft = lua_touserdata(L, 1);
    registration_free(*draft);
    *draft = NULL;
    return 0;
}

/* Pushes a userdata that owns a new registration. */
static struct registration **push_draft(lua_State *L)
{
    struct registration **draft = lua_newuserdata(L, sizeof *draft);
    *draft = NULL;
    luaL_getmetatable(L, DRAFT_METATABLE);
    lua_setmetatable(L, -2);
    *draft = calloc(1, sizeof **draft);
    if (!*draft)
        luaL_error(L, "not enough memory");
    return draft;
}

static enum registration_kind check_kind(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return (enum registration_kind)i;
    }
    luaL_argerror(L, 1, "no such kind of registration");
    return REGISTER_STREAM;
}

/* core.register(kind, spec, fn): spec from moonbus.options; fn: nil for a stream. Returns the place
 * of the registration in the order of all. */
static int core_register(lua_State *L)
{
    lua_settop(L, 3);
    enum registration_kind kind = check_kind(L);
    struct loading *loading = check_loading(L, kinds[kind].binding);
    if (kind != REGISTER_START && kind != REGISTER_STOP)
        luaL_checktype(L, 2, LUA_TTABLE);
    if (kind != REGISTER_STREAM)
        luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_checkstack(L, LUA_MINSTACK, "too many values");

    char file[512];
    struct registration **draft = push_draft(L);
    struct registration *r = *draft;
    r->kind = kind;
    if (vm_where(L, file, sizeof file, &r->line))
        r->file = copy_text(L, file);
    fill(L, r);
    check_durable(L, loading, r);

    lua_pushvalue(L, 3);
    *draft = NULL; /* loading_add may raise after it has taken it */
    if (loading_add(instance_of(L), L, r) != 0) {
        registration_free(r);
        return luaL_error(L, "not enough memory");
    }
    lua_pushinteger(L, loading->count);
    return 1;
}

/* core.script_limits{workers =, memory =, cpu =, jit =}, from moonbus.options. */
static int core_script_limits(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct loading *loading = check_loading(L, "bus.script");
    loading->workers = (int)number_field(L, 1, "workers", loading->workers);
    loading->memory_bytes = (size_t)number_field(L, 1, "memory", (double)loading->memory_bytes);
    if (push_field(L, 1, "cpu") == LUA_TNUMBER)
        loading->cpu_ns = duration_field(L, 1, "cpu");
    if (push_field(L, 1, "jit") == LUA_TBOOLEAN)
        loading->jit_off = !lua_toboolean(L, -1);
    return 0;
}

void api_load_open(lua_State *L)
{
    api_collected(L, DRAFT_METATABLE, collect_draft);
    static const luaL_Reg functions[] = {
        {"register", core_register},
        {"script_limits", core_script_limits},
        {NULL, NULL},
    };
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
