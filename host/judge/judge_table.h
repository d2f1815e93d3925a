/* judge_table - the functions of the rows in judge_table.c, by the file that they are in; the files
 * of judge alone. judge.h says what such a function gets. */
#ifndef MOONBUS_JUDGE_JUDGE_TABLE_H
#define MOONBUS_JUDGE_JUDGE_TABLE_H

#include "judge/judge.h"

#define JUDGEMENT(name)                                                                            \
    void judge_##name(const struct judge_facts *facts, const struct judgement *self,               \
                      struct judge_findings *out)

/* judge_time.c */
JUDGEMENT(short_graceful_timeout);
JUDGEMENT(request_outlives_handler);
JUDGEMENT(publish_outlives_handler);
JUDGEMENT(offload_outlives_handler);
JUDGEMENT(short_ack_wait);
JUDGEMENT(slow_pings);
JUDGEMENT(short_duplicate_window);
JUDGEMENT(concurrency_above_pending);
JUDGEMENT(naks_fill_pending);
JUDGEMENT(never_parked);

/* judge_options.c */
JUDGEMENT(idle_backoff);
JUDGEMENT(order_without_token);
JUDGEMENT(short_max_age);
JUDGEMENT(missing_file);

/* judge_letters.c */
JUDGEMENT(no_dead_letter);
JUDGEMENT(dead_letter_returns);
JUDGEMENT(dead_letter_without_stream);
JUDGEMENT(dead_letter_unconfirmed);
JUDGEMENT(dead_letter_by_interest);

/* judge_streams.c */
JUDGEMENT(registers_nothing);
JUDGEMENT(shared_durable);
JUDGEMENT(same_subject_twice);
JUDGEMENT(listens_where_stored);
JUDGEMENT(overlapping_filters);
JUDGEMENT(filter_takes_nothing);
JUDGEMENT(late_start_of_work_queue);
JUDGEMENT(overlapping_streams);
JUDGEMENT(overlaps_itself);
JUDGEMENT(forgetful_output);
JUDGEMENT(async_persist);
JUDGEMENT(headers_only);
JUDGEMENT(window_above_age);

/* judge_buckets.c */
JUDGEMENT(missing_bucket);
JUDGEMENT(forgetful_bucket);

/* judge_server.c */
JUDGEMENT(old_server);
JUDGEMENT(retries_not_parked);
JUDGEMENT(missing_stream);
JUDGEMENT(missing_durable);
JUDGEMENT(stream_differs);
JUDGEMENT(durable_differs);

#endif
