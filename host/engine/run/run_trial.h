/* run_trial - a run of a load test is measured (engine/version/trial.h). */
#ifndef MOONBUS_ENGINE_RUN_RUN_TRIAL_H
#define MOONBUS_ENGINE_RUN_RUN_TRIAL_H

struct task;

/* The worker: a run has ended, whose registration has a meter. */
void run_trial_note(const struct task *task);

#endif
