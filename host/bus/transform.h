/* transform - the subject transforms of JetStream (2.10 and newer), backwards: which subject has to
 * be published so that a stream stores it as this one?
 *
 *   src orders.*.>   dest sales.{{wildcard(1)}}.>   sales.eu.7 ◀── orders.eu.7
 *
 * Pure, any thread. Source: ADR-30, server/subject_transform.go. */
#ifndef MOONBUS_BUS_TRANSFORM_H
#define MOONBUS_BUS_TRANSFORM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* src: NULL or "" is ">". 1: *out has it. 0: the transform makes no such subject. ERR_INVALID: it
 * does, but from what cannot be known: a part of it was dropped or cut (`{{left(1,3)}}`). A
 * partition or a random number will be made again. */
int transform_undo(const char *src, const char *dest, const char *subject, char *out, size_t size,
                   struct err *err);

/* Would this subject be transformed, if it was published? */
bool transform_takes(const char *src, const char *subject);

#endif
