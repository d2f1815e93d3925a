/* subscribe - bus.subscribe, and what endpoints of services have of it: a subscription to core
 * NATS, whose messages are a source's. As of engine/source/kind.h. */
#ifndef MOONBUS_ENGINE_KINDS_SUBSCRIBE_H
#define MOONBUS_ENGINE_KINDS_SUBSCRIBE_H

#include "engine/kinds/kinds.h"
#include "engine/version/registration.h"

void subscribe_read(lua_State *L, int spec, struct registration *registration);
bool subscribe_continues(const struct registration *now, const struct registration *then);
int subscribe_start(struct source *source, struct err *err);
void subscribe_stop(struct source *source, void (*on_drained)(void *source));

#endif
