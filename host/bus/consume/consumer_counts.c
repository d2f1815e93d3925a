/* consumer_counts - its references, and the statuses by name. */
#include "bus/consume/consumer_counts.h"

#include <stdlib.h>

static const struct {
    int code;
    const char *name;
} answers[PULL_ANSWERS] = {
    [ANSWER_100] = {100, "100"}, [ANSWER_400] = {400, "400"},   [ANSWER_404] = {404, "404"},
    [ANSWER_408] = {408, "408"}, [ANSWER_409] = {409, "409"},   [ANSWER_423] = {423, "423"},
    [ANSWER_503] = {503, "503"}, [ANSWER_OTHER] = {0, "other"},
};

enum pull_answer pull_answer_of(int code)
{
    int answer = 0;
    while (answer < ANSWER_OTHER && answers[answer].code != code)
        answer++;
    return (enum pull_answer)answer;
}

const char *pull_answer_name(enum pull_answer answer)
{
    return answers[answer].name;
}

struct consumer_counts *consumer_counts_new(void)
{
    struct consumer_counts *counts = calloc(1, sizeof *counts);
    if (counts)
        atomic_init(&counts->references, 1);
    return counts;
}

struct consumer_counts *consumer_counts_retain(struct consumer_counts *counts)
{
    atomic_fetch_add_explicit(&counts->references, 1, memory_order_relaxed);
    return counts;
}

void consumer_counts_release(struct consumer_counts *counts)
{
    if (counts && atomic_fetch_sub_explicit(&counts->references, 1, memory_order_acq_rel) == 1)
        free(counts);
}
