/* event - something for an instance to do, posted to its mailbox; embedded in what it concerns. */
#ifndef MOONBUS_ENGINE_VERSION_EVENT_H
#define MOONBUS_ENGINE_VERSION_EVENT_H

struct instance;

struct event {
    struct event *prev, *next;
    void (*run)(struct event *event, struct instance *instance); /* on the worker */
};

#endif
