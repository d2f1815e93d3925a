/* parked - what is read of the headers of a message in MOONBUS_LATER, and what of them goes into
 * the one that follows it. Whoever may publish there wrote them. Any thread. */
#ifndef MOONBUS_BUS_CONSUME_PARKED_H
#define MOONBUS_BUS_CONSUME_PARKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/value.h"
#include "bus/consume/delivery.h"
#include "bus/request/jsapi.h"

#define PARKED_ID_MAX_BYTES 1400

struct parked_target {
    char subject[SUBJECT_MAX_BYTES + 1];
    char id[PARKED_ID_MAX_BYTES];
    int64_t at_ns;
};

/* False: it is none of ours, or would command the server. */
bool parked_read(const struct delivery *delivery, const struct jsapi *jsapi,
                 struct parked_target *target);

/* It follows a parked message: it is "due", or "cancelled". */
bool parked_is_follower(const struct delivery *delivery);
bool parked_is_cancelled(const struct delivery *delivery);

/* The sequence of what it follows; 0: it says none. */
unsigned long long parked_followed(const struct delivery *delivery);

/* is_claim: for the one that is due; else for the one that is published. 0, or ERR_MEMORY. */
int parked_copy_headers(const struct delivery *delivery, bool is_claim, struct headers *headers,
                        struct err *err);

/* It follows the parked message, if nothing else does. */
int parked_add_claim(const struct delivery *delivery, struct headers *headers, struct err *err);

#endif
