/* wired - a bus whose links are connected to a broker in this process: what a host has of NATS,
 * without Lua. What happens is written down, a line each, for a spec to look at.
 *
 *   got a.b hello          a core message; a request is answered with "re:" and its data
 *   read 3                 a read of those that are gathered has ended: so many had come
 *   reply hello            to a request; or: no reply timeout
 *   stored 4               a publish; or: stored 4 again (a duplicate), not stored timeout
 *   took 4 2               a message of the durable: sequence and attempt; it is acknowledged */
#ifndef MOONBUS_SPEC_WIRED_H
#define MOONBUS_SPEC_WIRED_H

#include "broker/broker_transport.h"

struct wired;

/* Starts a clock, a pool and a bus. ping_interval_ns 0: the default. */
struct wired *wired_new(struct broker_server *server, int64_t ping_interval_ns, struct err *err);
/* Stops all of it. False: the bus did not end in five seconds, and leaks. */
bool wired_free(struct wired *wired);

bool wired_wait_connected(struct wired *wired, int64_t timeout_ns);
/* Why the publish connection is not there; "" when it is. */
const char *wired_trouble(struct wired *wired);
/* Asks for the round trip of both connections, as a scrape does. */
void wired_ask_rtt(struct wired *wired);
/* Frames that the publish connection has still to write. */
size_t wired_waiting(struct wired *wired);
bool wired_flush(struct wired *wired, int64_t timeout_ns);

/* JetStream's API: blocks; false: err says why. request: JSON. */
bool wired_api(struct wired *wired, const char *operation, const char *request, struct err *err);

bool wired_subscribe(struct wired *wired, const char *subject, struct err *err);
/* Its messages are gathered by the spec itself. */
bool wired_gather(struct wired *wired, const char *subject, struct err *err);
void wired_unsubscribe(struct wired *wired); /* the last one, which is noted: stopped */
bool wired_request(struct wired *wired, const char *subject, const char *data, int64_t timeout_ns,
                   struct err *err);
bool wired_publish(struct wired *wired, const char *subject, const char *data, const char *id,
                   struct err *err);
/* Blocks until the durable is there. */
bool wired_consume(struct wired *wired, const char *stream, const char *durable,
                   int64_t ack_wait_ns, struct err *err);

/* Of what has come up so far: how many were handed up at once, at most. */
int wired_most_at_once(struct wired *wired);

/* How many lines begin so. */
int wired_count(struct wired *wired, const char *beginning);
/* All of them, until the next call. */
const char *wired_notes(struct wired *wired);

#endif
