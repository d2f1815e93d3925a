/* sim_refuse - what of the program is spared when memory is refused to it (spec/support/refuse.h):
 * Lua states, where a refusal between two resumes would end the process whatever the host does
 * (docs/internals/memory.md), and lua-cjson, which ends it by itself. */
#include <lua.h>

#include "spec/support/refuse.h"

struct strbuf;

lua_State *__real_lua_newstate(lua_Alloc allocate, void *data);
lua_State *__wrap_lua_newstate(lua_Alloc allocate, void *data);
void __real_strbuf_init(struct strbuf *buf, int len);
void __wrap_strbuf_init(struct strbuf *buf, int len);
struct strbuf *__real_strbuf_new(int len);
struct strbuf *__wrap_strbuf_new(int len);
void __real_strbuf_resize(struct strbuf *buf, int len);
void __wrap_strbuf_resize(struct strbuf *buf, int len);

static lua_Alloc real_allocate; /* the host's; there is one */

static void *allocate_unrefused(void *data, void *memory, size_t old_size, size_t new_size)
{
    if (!refuse_counts())
        return real_allocate(data, memory, old_size, new_size);
    refuse_pause();
    void *moved = real_allocate(data, memory, old_size, new_size);
    refuse_resume();
    return moved;
}

lua_State *__wrap_lua_newstate(lua_Alloc allocate, void *data)
{
    real_allocate = allocate;
    return __real_lua_newstate(allocate_unrefused, data);
}

void __wrap_strbuf_init(struct strbuf *buf, int len)
{
    refuse_pause();
    __real_strbuf_init(buf, len);
    refuse_resume();
}

struct strbuf *__wrap_strbuf_new(int len)
{
    refuse_pause();
    struct strbuf *buf = __real_strbuf_new(len);
    refuse_resume();
    return buf;
}

void __wrap_strbuf_resize(struct strbuf *buf, int len)
{
    refuse_pause();
    __real_strbuf_resize(buf, len);
    refuse_resume();
}
