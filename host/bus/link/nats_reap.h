/* nats_reap - where messages of nats.c go when nobody needs them any more.
 *
 * natsMsg_Destroy hands a message to a thread of nats.c that frees it, and wakes that thread when
 * it sleeps: which is each time, when messages end one by one, and costs more than all the rest
 * that is done for a small message. Here they gather, and go together: one wake for many.
 *
 * Any thread; never blocks. Like nats.c's own list, this one is the process's. */
#ifndef MOONBUS_BUS_LINK_NATS_REAP_H
#define MOONBUS_BUS_LINK_NATS_REAP_H

#include <nats/nats.h>

/* Takes msg, which may be NULL. It is gone now or a little later. */
void nats_reap_later(natsMsg *msg);

/* Frees all that has gathered: before nats.c is closed. */
void nats_reap_flush(void);

#endif
