/* frames - a traceback with the values of locals, for `moonbus replay`: a line for each frame of a
 * script, as luaL_traceback has them, and under it one for each local that the frame can see.
 * Bounded in everything, and none of the script's code runs for it. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "vm/vm_private.h"

#define FRAMES_MOST 20
#define LOCALS_MOST 30
#define TEXT_MOST 12000 /* of all of it: a line of the log takes it */

static void put_place(struct text *out, const lua_Debug *frame)
{
    if (strcmp(frame->what, "C") == 0)
        text_puts(out, "\n\t[C]:");
    else if (frame->currentline <= 0) /* it was lost with its coroutine */
        text_printf(out, "\n\t%s:", frame->short_src);
    else
        text_printf(out, "\n\t%s:%d:", frame->short_src, frame->currentline);
    if (*frame->namewhat)
        text_printf(out, " in function '%s'", frame->name);
    else if (strcmp(frame->what, "main") == 0)
        text_puts(out, " in main chunk");
    else
        text_printf(out, " in function <%s:%d>", frame->short_src, frame->linedefined);
}

/* Temporaries have no names. */
static void put_locals(struct text *out, lua_State *L, lua_State *at, lua_Debug *frame)
{
    const char *name;
    for (int i = 1; i <= LOCALS_MOST && out->len < TEXT_MOST; i++) {
        name = lua_getlocal(at, frame, i);
        if (!name)
            return;
        if (at != L)
            lua_xmove(at, L, 1);
        if (*name != '(') {
            text_printf(out, "\n\t    %s = ", name);
            vm_show_value(L, -1, out);
        }
        lua_pop(L, 1);
    }
}

void frames_push(lua_State *L, lua_State *at, int level)
{
    struct text out;
    lua_Debug frame;
    int shown = 0;
    text_init(&out);
    text_puts(&out, "stack traceback:");
    for (; lua_getstack(at, level, &frame); level++) {
        if (shown == FRAMES_MOST || out.len >= TEXT_MOST) {
            text_puts(&out, "\n\t...");
            break;
        }
        lua_getinfo(at, "Snl", &frame);
        bool in_c = strcmp(frame.what, "C") == 0;
        if (in_c ? !*frame.namewhat : frame.source[0] == '=') /* the host's own Lua */
            continue;
        put_place(&out, &frame);
        if (!in_c)
            put_locals(&out, L, at, &frame);
        shown++;
    }
    lua_pushlstring(L, out.bytes, out.len);
    text_clear(&out);
}

int vm_push_frames(lua_State *L, int level)
{
    if (!vm_of(L)->shows_locals)
        return 0;
    frames_push(L, L, level);
    return 1;
}
