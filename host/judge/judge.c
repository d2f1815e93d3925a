/* judge - findings, and the way through the table. */
#include "judge/judge.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MOST 1024

const char *judge_severity_name(enum judge_severity severity)
{
    static const char *const names[] = {
        [JUDGE_NOTE] = "note", [JUDGE_WARNING] = "warning", [JUDGE_ERROR] = "error"};
    return names[severity];
}

/* Room for one more; NULL: no memory. */
static struct judge_finding *next_finding(struct judge_findings *findings)
{
    if (findings->count == findings->capacity) {
        int capacity = findings->capacity ? 2 * findings->capacity : 16;
        void *list = realloc(findings->list, (size_t)capacity * sizeof *findings->list);
        if (!list)
            return NULL;
        findings->list = list;
        findings->capacity = capacity;
    }
    return &findings->list[findings->count];
}

void judge_find(struct judge_findings *out, const struct judgement *self,
                enum judge_severity severity, const struct judge_place *place,
                const struct judge_place *other, const char *format, ...)
{
    char text[TEXT_MOST];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct judge_finding *finding = next_finding(out);
    char *copy = finding ? strdup(text) : NULL;
    if (!copy) {
        out->failed = true;
        return;
    }
    *finding = (struct judge_finding){.judgement = self, .severity = severity, .text = copy};
    if (place)
        finding->place = *place;
    if (other)
        finding->other = *other;
    out->count++;
}

static int compare_texts(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int compare(const void *a, const void *b)
{
    const struct judge_finding *one = a, *other = b;
    int order = compare_texts(one->place.script, other->place.script);
    if (!order)
        order = compare_texts(one->place.file, other->place.file);
    if (!order)
        order = one->place.line - other->place.line;
    if (!order && one->judgement != other->judgement)
        order = one->judgement < other->judgement ? -1 : 1;
    return order ? order : strcmp(one->text, other->text);
}

void judge_all(const struct judge_facts *facts, struct judge_findings *out)
{
    for (int i = 0; i < judgement_count; i++) {
        if (!facts->serving || !judgements[i].startup)
            judgements[i].judge(facts, &judgements[i], out);
    }
    if (out->count > 1)
        qsort(out->list, (size_t)out->count, sizeof *out->list, compare);
}

void judge_findings_clear(struct judge_findings *findings)
{
    for (int i = 0; i < findings->count; i++)
        free(findings->list[i].text);
    free(findings->list);
    *findings = (struct judge_findings){0};
}
