/* What a puller says and hears of its priority group: what its requests name, and the pin. */
#include <stdio.h>
#include <string.h>

#include "base/join.h"
#include "base/log.h"
#include "bus/consume/puller_private.h"
#include "bus/packet.h"
#include "bus/request/jsapi.h"

void puller_set_group(struct puller *puller, const struct puller_group *group)
{
    mutex_lock(&puller->lock);
    puller->group = *group;
    mutex_unlock(&puller->lock);
}

static void add_text(struct join *join, const char *name, const char *text)
{
    join_text(join, ",\"");
    join_text(join, name);
    join_text(join, "\":\"");
    join_text(join, text);
    join_text(join, "\"");
}

static void add_number(struct join *join, const char *name, int64_t number)
{
    if (number <= 0)
        return;
    join_text(join, ",\"");
    join_text(join, name);
    join_text(join, "\":");
    join_number(join, (uint64_t)number);
}

const char *puller_group_print(const struct puller *puller, char *buf, size_t size)
{
    must_hold(&puller->lock);
    const struct puller_group *group = &puller->group;
    struct join join = join_in(buf, size);
    if (!group->name[0])
        return buf;
    add_text(&join, "group", group->name);
    if (puller->pull.pin.id[0])
        add_text(&join, "id", puller->pull.pin.id);
    add_number(&join, "priority", group->priority);
    add_number(&join, "min_pending", group->min_pending);
    add_number(&join, "min_ack_pending", group->min_ack_pending);
    return buf;
}

/* A server puts it behind all headers that a publisher wrote. */
bool puller_group_arrived(struct puller *puller, const struct packet *packet, uint64_t now_ns)
{
    must_hold(&puller->lock);
    if (!puller->pull.pin.on)
        return false;
    struct span id = header_block_last(&packet->headers, "Nats-Pin-Id");
    return id.len && pin_taken(&puller->pull.pin, puller_request_of(packet), id.at, id.len, now_ns);
}

void puller_group_log(struct puller *puller, bool pinned)
{
    puller_log(puller, LOG_INFO,
               pinned ? "pinned: the messages come to this process"
                      : "no longer pinned: the messages go to another process, or the server "
                        "chooses anew");
}

void puller_group_leave(struct puller *puller)
{
    must_hold(&puller->lock);
    char operation[600], subject[1024], body[64];
    if (!puller->stopped || puller->pull.held > 0)
        return;
    if (puller_cancel_tick(puller))
        puller_release(puller); /* the caller has another */
    /* It names the group alone: later it would take the pin of whoever has it then. */
    bool ours = pin_is_ours(&puller->pull.pin, clock_now_ns());
    puller->pull.pin.id[0] = '\0';
    if (!ours)
        return;
    jsapi_consumer("UNPIN", puller->stream, puller->on_server, operation, sizeof operation);
    jsapi_subject(puller->intake->jsapi, operation, subject, sizeof subject);
    int len = snprintf(body, sizeof body, "{\"group\":\"%s\"}", puller->group.name);
    struct link_frame frame = {.subject = subject, .data = body, .len = (size_t)len};
    link_send(puller->intake->link, LANE_URGENT, &frame, NULL); /* else its timeout does it */
}
