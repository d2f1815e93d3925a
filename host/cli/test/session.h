/* session - one test file in a Lua state of its own: whatever a test does to globals, metatables or
 * modules ends with its file, and what computes for ever, blocks, or fills the memory is stopped.
 *
 *   runner (a state without tests) ── session.run(path, settings, tell) ─▶ a new state
 *       moonbus.test.boot ─▶ moonbus.test.file ── call(fn) ─▶ guard: so much time, so much memory
 *       ◀── tell(kind, text): results, as JSON
 *
 * The kit's own Lua has copies of the libraries there (boot.lua); of metatables of strings and the
 * like each side has its own. On the main thread, one file at a time. */
#ifndef MOONBUS_CLI_TEST_SESSION_H
#define MOONBUS_CLI_TEST_SESSION_H

#include <lua.h>
#include <stdint.h>

struct sim_settings;

struct session_settings {
    struct sim_settings *sim; /* borrowed */
    int64_t limit_ns;         /* of a test, a hook, a top level; 0: none */
};

/* Once, before the first: watches the CPU's time, and hands out what sessions need. */
void session_watch(const struct session_settings *given);
void session_end_watch(void);

/* The test that runs waits for a real server: it does not block. */
void session_waits(void);

/* As package.preload wants it: "moonbus.test.session", for the runner. */
int session_open(lua_State *L);

#endif
