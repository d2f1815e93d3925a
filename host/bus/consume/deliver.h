/* deliver - with which message of its stream a consumer begins: the option `deliver` of js.consume,
 * and NATS' own deliver_policy. */
#ifndef MOONBUS_BUS_CONSUME_DELIVER_H
#define MOONBUS_BUS_CONSUME_DELIVER_H

enum deliver_from {
    DELIVER_ALL,
    DELIVER_NEW,
    DELIVER_LAST,
    DELIVER_LAST_PER_SUBJECT,
    DELIVER_SEQUENCE,
    DELIVER_TIME
};

#endif
