/* unserved - the durables on the server that hosts of moonbus made, and that nobody pulls from: of
 * a script that is gone, or was renamed. They keep their messages, and their limits.
 *
 * Which moonbus made is told by what consumer_config_sign wrote into them. Nobody pulls from one
 * while no pull request waits on the server; a busy handler elsewhere may have none for a while,
 * but then there are messages without a verdict.
 *
 * Asks for all streams that this user may see, one after the other: so only when somebody wants to
 * know, and within bounds. Blocks; pool threads only. */
#ifndef MOONBUS_BUS_CONSUME_UNSERVED_H
#define MOONBUS_BUS_CONSUME_UNSERVED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct jsapi;

#define UNSERVED_STREAMS_MOST 256
#define UNSERVED_MOST 256

struct unserved {
    char *stream, *durable, *script;   /* owned; script: which made it */
    char created[40], last_active[40]; /* as the server writes times; "": it does not say; the
                                          latter: when a message was last delivered, "": none was */
    uint64_t pending, ack_pending;
};

struct unserved_list {
    struct unserved items[UNSERVED_MOST];
    int count;
    bool cut; /* there were more streams, consumers or durables than it looks at, or has memory for
               */
};

/* Of zeroed memory; unserved_clear in any case. 0, or why the server did not say. */
int unserved_find(struct jsapi *jsapi, uint64_t deadline_ns, struct unserved_list *list,
                  struct err *err);
void unserved_clear(struct unserved_list *list);

#endif
