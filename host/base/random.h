/* random - chance. In a simulated world all of it comes from the world's seed. Any thread. */
#ifndef MOONBUS_BASE_RANDOM_H
#define MOONBUS_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* The kernel's: nobody guesses them, unless the system has neither getrandom nor /dev/urandom. */
void random_bytes(void *buf, size_t len);

/* A generator of the calling thread's own: fast, and good enough to spread what would meet. */
uint64_t random_number(void);

#endif
