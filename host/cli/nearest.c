/* nearest - what somebody may have meant: of some names, the one that is nearest to what was typed.
 */
#include <string.h>

#include "cli/cli.h"

#define NAME_MOST 64

static int distance(const char *a, const char *b)
{
    int row[NAME_MOST + 1];
    int a_len = (int)strlen(a), b_len = (int)strlen(b);
    if (a_len > NAME_MOST || b_len > NAME_MOST)
        return NAME_MOST;
    for (int j = 0; j <= b_len; j++)
        row[j] = j;
    for (int i = 1; i <= a_len; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= b_len; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            int gap = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < gap ? change : gap;
        }
    }
    return row[b_len];
}

const char *cli_nearest(const char *name, const char *const *names, int count)
{
    const char *best = NULL;
    int len = (int)strlen(name), least = len < 4 ? (len + 1) / 2 : 2;
    for (int i = 0; i < count; i++) {
        int d = distance(name, names[i]);
        if (d <= least && (!best || d < least)) {
            best = names[i];
            least = d;
        }
    }
    return best;
}
