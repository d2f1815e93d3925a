/* baseline - what a C programmer would write on nats.c for each case of the benchmark, as fast as
 * we know how. It says "ready" when it serves, and runs until SIGTERM.
 *
 * With --headers yes what it stores carries what moonbus adds by contract: a Nats-Msg-Id, and with
 * JSON a content-type; and an echo has a content-type. Without, only what is needed. */
#ifndef MOONBUS_BASELINE_H
#define MOONBUS_BASELINE_H

#include <nats/nats.h>
#include <stdbool.h>

/* Each serves until the process ends; which options it reads stands at its function. */
void baseline_echo(void);
void baseline_receive(void);
void baseline_respond(void);
void baseline_latency(void);
void baseline_consume(void);
void baseline_fetch(void);
void baseline_relay(void);
void baseline_hold(void);

bool baseline_headers(void);
void baseline_ready(void);

/* Publishes with headers: an id and a content-type, unless they are NULL. */
void baseline_publish(natsConnection *connection, const char *subject, const char *reply,
                      const char *type, const char *id, const char *data, int len);

#endif
