/* Feeds a target with inputs that are known: moonbus_replay TARGET FILE...
 *
 * A line of FILE is an input, with \n, \\ and \xNN for what cannot stand in a line; empty lines and
 * those that begin with '#' are none. "-" for FILE is an input as it is, from standard input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fuzz.h"

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* In place; returns the length, or -1. */
static long unescape(char *line)
{
    char *out = line;
    for (const char *at = line; *at; at++) {
        if (*at != '\\') {
            *out++ = *at;
        } else if (at[1] == 'x' && hex(at[2]) >= 0 && hex(at[3]) >= 0) {
            *out++ = (char)(hex(at[2]) << 4 | hex(at[3]));
            at += 3;
        } else if (at[1] == 'n' || at[1] == '\\') {
            *out++ = *++at == 'n' ? '\n' : '\\';
        } else {
            return -1;
        }
    }
    return out - line;
}

/* In a block of its own size, so that AddressSanitizer sees who reads past its end. */
static void feed(const struct fuzz_target *target, const char *bytes, size_t len)
{
    uint8_t *input = malloc(len ? len : 1);
    MUST(input != NULL);
    memcpy(input, bytes, len);
    target->run(input, len);
    free(input);
}

/* How many inputs it holds, or -1, said. */
static int replay_lines(const struct fuzz_target *target, const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    int count = 0, number = 0;
    if (!file) {
        perror(path);
        return -1;
    }
    while (count >= 0 && getline(&line, &size, file) >= 0) {
        number++;
        line[strcspn(line, "\n")] = '\0';
        if (!*line || *line == '#')
            continue;
        long len = unescape(line);
        if (len < 0) {
            fprintf(stderr, "%s:%d: a \\ that is none of \\n, \\\\ and \\xNN\n", path, number);
            count = -1;
        } else {
            feed(target, line, (size_t)len);
            count++;
        }
    }
    free(line);
    fclose(file);
    return count;
}

static int replay_input(const struct fuzz_target *target)
{
    char *bytes = NULL;
    size_t size = 0;
    FILE *all = open_memstream(&bytes, &size);
    MUST(all != NULL);
    for (int c; (c = getchar()) != EOF;)
        fputc(c, all);
    fclose(all);
    feed(target, bytes, size);
    free(bytes);
    return 1;
}

int main(int argc, char **argv)
{
    const struct fuzz_target *target = argc > 2 ? fuzz_find(argv[1]) : NULL;
    int total = 0;
    if (!target) {
        fprintf(stderr, "usage: moonbus_replay TARGET FILE...; targets:");
        for (size_t i = 0; i < fuzz_target_count; i++)
            fprintf(stderr, " %s", fuzz_targets[i].name);
        fprintf(stderr, "\n");
        return 2;
    }
    log_setup(LOG_OFF, LOG_TEXT);
    for (int i = 2; i < argc; i++) {
        int count =
            strcmp(argv[i], "-") == 0 ? replay_input(target) : replay_lines(target, argv[i]);
        if (count < 0)
            return 2;
        total += count;
    }
    printf("%s: %d inputs\n", target->name, total);
    return 0;
}
