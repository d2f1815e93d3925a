/* subscription - one core NATS subscription whose messages become deliveries for the sink. */
#ifndef MOONBUS_BUS_SUBSCRIPTION_H
#define MOONBUS_BUS_SUBSCRIPTION_H

#include "bus/bus.h"

struct subscription;

/* Subscribes on the consume connection. subject, queue (or NULL): copied. source: handed to the
 * sink with each delivery. Any thread. */
struct subscription *subscription_new(struct bus *bus, const char *subject, const char *queue,
                                      void *source, struct err *err);

/* Drains; then on_stopped(source), once, on any thread, and the subscription is gone. */
void subscription_stop(struct subscription *subscription, void (*on_stopped)(void *source));

#endif
