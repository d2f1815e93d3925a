/* load - what sends messages to the program under test and measures what comes back. Each mode runs
 * to its end and prints one line of JSON; which options it reads stands at its function. */
#ifndef MOONBUS_BENCH_LOAD_H
#define MOONBUS_BENCH_LOAD_H

int load_flow(void);        /* as many messages as go through, with a bounded number under way */
int load_request(void);     /* requests, one or several under way */
int load_pace(void);        /* so many messages in a second: latencies, gaps */
int load_fill(void);        /* messages into a stream */
int load_watch(void);       /* a durable consumer, until it has settled everything */
int load_percentiles(void); /* what the recorder of latencies tells of given numbers */

#endif
