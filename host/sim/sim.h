/* sim - the host in a simulated world, for `moonbus test` and for specs: engine, bindings, bus and
 * link as they are, a broker inside the process in the place of a server, and time and order by a
 * seed (base/world.h). What of the program stays out of it: the uv loop with its signals, files and
 * HTTP, the watchdog's signals, offload threads, nats.c.
 *
 *   Lua (spec/sim/sim.lua) ── sim_* ─▶ world ─▶ fibers: workers, clock, pool, writers, loads
 *                                        └────▶ broker (host/broker) ◀─ links of each host
 *
 * Several hosts may live in one world, as processes do beside one server. The functions here are
 * for the one OS thread that has the world, from outside of it. Those that wait let time pass. A
 * text that is returned is the sim's until the next call that returns one. */
#ifndef MOONBUS_SIM_SIM_H
#define MOONBUS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the error of what takes too many steps. */
#define SIM_ENDLESS "it goes round and round"

struct sim;
struct sim_host;
struct sim_settings;

/* Settings of moonbus.lua for hosts, as "workers=2\nlimits.generations=3"; of any sim. NULL: see
 * sim_settings_error. */
struct sim_settings *sim_settings_new(const char *lines);
/* The same of a config, which is theirs from now on. NULL: no memory. */
struct config;
struct sim_settings *sim_settings_of(struct config *config);
void sim_settings_free(struct sim_settings *settings);
const char *sim_settings_error(void);

struct sim_message;

/* A real server in the place of the broker: then there is no world either. Time is real, threads
 * are threads, and what is said of fibers here is of those. Its calls may come from any thread;
 * what take returns is its own until the next one. */
struct sim_outside {
    const char *url;
    void *owner;
    /* A client that is no host publishes; headers: the whole block. */
    void (*publish)(void *owner, const struct sim_message *message);
    /* The next message that came to it, at "_OUTSIDE.>". */
    bool (*take)(void *owner, struct sim_message *out);
    /* All that was sent to it before has come. */
    void (*flush)(void *owner);
};

struct sim_options {
    const struct sim_outside *outside; /* not owned; NULL: a world with a broker */
    uint64_t seed;
    unsigned yields, false_wakes;
    int64_t wall_ns; /* the time of day at which it begins, since 1970; 0: 2026-01-01T00:00:00Z */
    size_t max_payload; /* the server's, in bytes; 0: 1 MB */
    bool any_thread;    /* workers and readers may write in the writers' place, as over a socket of
                           the host's own; a writer lets a burst gather for 0.1 ms then. Else the
                           writers alone do, as through nats.c */
};

/* any_thread: of every second seed. */
struct sim *sim_new(uint64_t seed, unsigned yields, unsigned false_wakes);
/* The same, with more that may be stated. */
struct sim *sim_new_with(const struct sim_options *given);
/* Ends the server: when there are no hosts any more. False: it does not end. */
bool sim_close(struct sim *sim);
/* And what is left in it. */
void sim_free(struct sim *sim);

/* Milliseconds since the beginning. */
double sim_now_ms(const struct sim *sim);
/* Somebody sets the machine's clock, forward or (negative) back. */
void sim_set_wall(struct sim *sim, double by_ms);
/* False: it is stuck, sim_error tells. */
bool sim_advance(struct sim *sim, double ms);
/* As long as somebody can run at this time. */
bool sim_settle(struct sim *sim);
/* So many steps may each call take that lets time pass; one of more has lost its way. */
void sim_allow(struct sim *sim, uint64_t steps);
/* On to the next moment at which somebody can run, until_ms at the latest; then as sim_settle. */
bool sim_step(struct sim *sim, double until_ms);

/* Real time that Lua computes for counts from now on against limits.cpu, until the process ends: a
 * handler that never ends is stopped, as the watchdog stops it elsewhere. around: the guard of the
 * Lua that has the sims, of this thread; or NULL. on_lost: its run cannot be ended; called by a
 * handler of signals. */
struct guard;
void sim_watch_cpu(struct guard *around, void (*on_lost)(void));

uint64_t sim_trace(const struct sim *sim);
uint64_t sim_steps(const struct sim *sim);
int sim_fibers(const struct sim *sim);
double sim_random(struct sim *sim);
/* Who waits for what. */
const char *sim_report(struct sim *sim);
/* Why the last call failed. */
const char *sim_error(const struct sim *sim);

/* What has been noted since the last call: a line for each, "<ms>\t<kind>\t<text>", where kind is
 * "log" (a line of the log as JSON), "note" (of a handler, by its module "sim"), "sent1"
 * (what the links of the first host wrote), "got1" (the ack subject of what came to it), "sim". */
const char *sim_notes(struct sim *sim);
/* What hosts send to subjects that begin so (static; "": all) is noted, too. NULL: nothing. */
void sim_note_wire(struct sim *sim, const char *subjects);

/* --- the server --- */

/* A client that is no host publishes; headers: the whole block, or NULL. after_ms > 0: so much
 * later, by itself, in a race with all else that happens then. */
void sim_publish(struct sim *sim, double after_ms, const char *subject, const char *reply,
                 const char *headers, const char *data, size_t len);
/* The next message that came to it, at "_OUTSIDE.>"; everything is the sim's until the next call.
 * False: none. */
struct sim_message {
    const char *subject, *reply, *headers, *data;
    size_t headers_len, len;
    bool diverted; /* sim_divert; only of what is sent */
};
bool sim_take(struct sim *sim, struct sim_message *out);

/* Idle pull requests of hosts that begin to serve from now on live so many times longer, and are as
 * silent: a day of which nothing is to be seen then takes fewer steps. Not where anything is lost.
 */
void sim_calm(struct sim *sim, int times);

/* What hosts send is kept from now on. */
void sim_keep_sent(struct sim *sim);
/* The oldest that is kept; everything is the sim's until the next call. headers: the whole block;
 * "": none. False: there is none. */
bool sim_take_sent(struct sim *sim, struct sim_message *out);
/* Requests that hosts send to such subjects go no further, if they are kept: who takes them out
 * answers. */
void sim_divert(struct sim *sim, const char *pattern);
/* All of them, but what is JetStream's own. */
void sim_divert_all(struct sim *sim);
/* NAKs wait on their way to the server; false: all that wait go on, and none waits any more. */
bool sim_hold_naks(struct sim *sim, bool hold);
/* The next new message that this durable delivers has been delivered so often before. From a real
 * server it comes as if it had, up to the ninth time. */
bool sim_count_from(struct sim *sim, const char *stream, const char *durable, uint64_t deliveries);
/* In a world alone: a message lies in a stream as it lay elsewhere: with that sequence, of that
 * time, in the place of all that the stream held; this durable delivers it next, whatever it would
 * begin with. False: there is no such stream or durable, or no memory. */
struct sim_placed {
    const char *stream, *durable, *subject;
    const char *headers, *data; /* headers: the whole block; NULL: none */
    size_t headers_len, len;
    uint64_t sequence;
    int64_t timestamp_ns; /* since 1970 */
};
bool sim_place(struct sim *sim, const struct sim_placed *placed);
/* In a world alone: how many messages durables have not settled. */
uint64_t sim_unsettled(struct sim *sim);

/* --- faults; those that last end by themselves --- */

/* The connection of a link (numbered from 0 in the order of their start: of each host consume, then
 * publish; -1: all) is lost, with what is in flight: 1 to the server, 2 from it, 3 both, 0 nothing.
 * For so long no connection is made. */
void sim_cut(struct sim *sim, int link, int loss, double back_ms);
/* The server reads and writes nothing. */
void sim_freeze(struct sim *sim, double ms);
/* It is away, and then it starts with all that it had. */
void sim_down(struct sim *sim, double ms);
/* Each message takes so long, in each direction. */
void sim_delay(struct sim *sim, int each_ms, double ms);
/* The next `count` messages to hosts on this subject (a pattern; static) are lost. */
void sim_lose(struct sim *sim, const char *subject, int count);
/* How many of them have not been lost yet. */
int sim_losses_left(struct sim *sim);
/* The same of what hosts send, after the next `skip` of them. */
void sim_lose_in(struct sim *sim, const char *subject, int skip, int count);

/* --- calls of HTTP servers --- */

/* Hosts that are made from now on can make them: who takes a call answers it. */
void sim_answer_http(struct sim *sim);
/* The oldest call that was not taken; everything is the sim's until the next call. headers: "name
 * NUL value NUL" for each. False: there is none. */
struct sim_http_call {
    uint64_t number;
    const char *method, *url, *headers, *body;
    size_t headers_len, body_len;
};
bool sim_take_http(struct sim *sim, struct sim_http_call *out);
/* So much later; after the call's timeout that comes in its place. error: the name of a code
 * ("refused") and a sentence; NULL: it is answered. headers: as above. */
struct sim_http_reply {
    const char *error, *sentence;
    int status;
    const char *headers, *body;
    size_t header_count, body_len;
    double after_ms;
};
void sim_http_answer(struct sim *sim, uint64_t number, const struct sim_http_reply *reply);
/* It is made for real, by the network, while the world stands; then it is answered. */
void sim_http_go_out(struct sim *sim, uint64_t number);

/* --- calls of bus.offload --- */

/* From now on calls of this module's functions run on no thread: who takes a call answers it, or it
 * times out. */
void sim_answer_offload(struct sim *sim, const char *module);
/* The oldest call that was not taken; everything is the sim's until it is answered. False: there is
 * none. */
struct plain;
struct sim_offload_call {
    uint64_t number;
    const char *module, *function;
    const struct plain *arguments;
};
bool sim_take_offload(struct sim *sim, struct sim_offload_call *out);
/* So much later. results: with a reference; err: it has failed; NULL: it has not. */
struct err;
void sim_offload_answer(struct sim *sim, uint64_t number, struct plain *results,
                        const struct err *err, double after_ms);

/* --- a host --- */

/* Hosts that are made from now on serve this handler alone (struct engine_options); borrowed. */
void sim_only(struct sim *sim, const char *handler);

/* With an engine, but nothing loaded. NULL: sim_error. */
struct sim_host *sim_host_new(struct sim *sim, const struct sim_settings *settings);
/* What is loaded from now on has these as bus.settings: a JSON object, borrowed for the call. */
bool sim_host_settings(struct sim_host *host, const char *json);
/* Loads a file. */
bool sim_host_load(struct sim_host *host, const char *path, const char *name);
/* Connects, and serves what is loaded. */
bool sim_host_serve(struct sim_host *host);
/* Begins to load the file anew and to switch to it; a note "reloaded" or "refused: why" tells the
 * end. */
void sim_host_reload(struct sim_host *host, const char *path, const char *name);
bool sim_host_reloading(const struct sim_host *host);
/* Begins to stop, with so much time for it; a note "stopped" tells the end. */
void sim_host_stop(struct sim_host *host, double graceful_ms);
bool sim_host_stopped(const struct sim_host *host);
/* Waits for the end of a stop (which it begins, if need be), and frees the host. How many handlers
 * did not end in time; -1: something of it still ran at the deadline, where a process would end
 * without more: it is left in the world. -2: the stop does not end. */
int sim_host_end(struct sim_host *host, double graceful_ms);
/* Does it run handlers, or wait for the server? */
bool sim_host_busy(struct sim_host *host);
/* What a script has registered (engine/engine.h), from 0 on. False: past the end. */
struct registration_view;
bool sim_host_registration(struct sim_host *host, int i, struct registration_view *out);
/* What it has at hand, as JSON: the engine's report, running, generations, frames, publishes,
 * requests. */
const char *sim_host_status(struct sim_host *host);
/* The spans that it has recorded since the last call, as requests of OTLP, one a line; it records
 * them with the setting telemetry.endpoint. */
const char *sim_host_spans(struct sim_host *host);

/* Bytes that this OS thread has allocated and not freed; 0 where that is not known. */
int64_t sim_bytes(void);

/* --- for handlers, by spec/sim/lib/sim.lua: on a worker's fiber --- */

void sim_handler_note(const char *text);
/* Computes for so long: the others go on meanwhile. */
void sim_handler_burn(double ms);

#endif
