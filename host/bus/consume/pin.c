/* The pin of a priority group: taken, kept, lost. */
#include "bus/consume/pin.h"

#include <ctype.h>
#include <string.h>

#include "base/value.h"

/* nats-server's own, where the consumer states none. */
#define TIMEOUT_NS (120 * NS_PER_S)
#define TIMEOUT_MIN_NS (20 * NS_PER_MS)

void pin_set(struct pin *pin, bool on, int64_t timeout_ns)
{
    pin->on = on;
    pin->timeout_ns = timeout_ns > 0 ? timeout_ns : TIMEOUT_NS;
    if (pin->timeout_ns < TIMEOUT_MIN_NS)
        pin->timeout_ns = TIMEOUT_MIN_NS;
    if (!on)
        pin->id[0] = '\0';
}

/* As nats-server makes them: it is put into requests as it is. */
static bool is_id(const char *id, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)id[i]) && id[i] != '-' && id[i] != '_')
            return false;
    }
    return len > 0 && len < PIN_ID_BYTES;
}

bool pin_taken(struct pin *pin, uint64_t request, const char *id, size_t len, uint64_t now_ns)
{
    if (!pin->on || !is_id(id, len) || (strlen(pin->id) == len && memcmp(pin->id, id, len) == 0))
        return false;
    memcpy(pin->id, id, len);
    pin->id[len] = '\0';
    pin->from = request;
    pin->kept_ns = now_ns;
    return true;
}

bool pin_refused(struct pin *pin, uint64_t request)
{
    if (!pin->id[0] || request < pin->from)
        return false;
    pin->id[0] = '\0';
    return true;
}

void pin_kept(struct pin *pin, uint64_t now_ns)
{
    pin->kept_ns = now_ns;
}

/* An eighth of the timeout is for the way. */
bool pin_is_ours(const struct pin *pin, uint64_t now_ns)
{
    return pin->id[0] && now_ns < pin->kept_ns + (uint64_t)pin->timeout_ns / 8 * 7;
}

uint64_t pin_due_ns(const struct pin *pin)
{
    return pin->id[0] ? pin->kept_ns + (uint64_t)pin->timeout_ns / 2 : UINT64_MAX;
}
