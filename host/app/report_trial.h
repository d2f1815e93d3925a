/* report_trial - what a load test has measured so far (engine/version/trial.h), as JSON, for
 * `moonbus tune`, which asks for it at /status. The caller owns it. Any thread. */
#ifndef MOONBUS_APP_REPORT_TRIAL_H
#define MOONBUS_APP_REPORT_TRIAL_H

struct cJSON;
struct trial;

/* {"handlers": [...], "streams": [...]}: of each durable what it is, what it states, and what was
 * counted; a histogram as pairs of the longest duration, in ns, and how many there were. */
struct cJSON *report_trial(struct trial *trial);

#endif
