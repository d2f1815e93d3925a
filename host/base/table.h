/* table - hash tables (uthash) that end no process: when memory for one is refused, what should
 * have been added is not there, and is still its caller's.
 *
 *   HASH_ADD_STR(table, name, item);
 *   if (!table_has(item)) ...
 *
 * uthash.h is included here alone: by itself it calls exit() then. */
#ifndef MOONBUS_BASE_TABLE_H
#define MOONBUS_BASE_TABLE_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Right behind the HASH_ADD. */
#define table_has(item) ((item)->hh.tbl != NULL)

#endif
