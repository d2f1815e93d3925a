/* subscription - one core NATS subscription whose messages become deliveries for the sink. */
#ifndef MOONBUS_BUS_CONSUME_SUBSCRIPTION_H
#define MOONBUS_BUS_CONSUME_SUBSCRIPTION_H

#include "base/err.h"
#include "bus/consume/intake.h"

struct subscription;

/* Subscribes on the intake's link; intake is borrowed for as long as it lives. subject, queue (or
 * NULL): copied. source: handed to the sink with each delivery. Any thread. */
struct subscription *subscription_new(const struct intake *intake, const char *subject,
                                      const char *queue, void *source, struct err *err);

/* Drains; then on_stopped(source), once, on any thread, and the subscription is gone. */
void subscription_stop(struct subscription *subscription, void (*on_stopped)(void *source));

#endif
