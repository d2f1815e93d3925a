/* Steps, written before those that follow them. */
#include "base/path.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Bytes of a key that are shown, and room for the dots in place of what does not fit. */
#define KEY_MOST 64
#define DOTS 3

void path_begin(struct path *path)
{
    path->start = sizeof path->bytes - 1;
    path->bytes[path->start] = '\0';
    path->full = false;
}

static bool put_before(struct path *path, const char *step, size_t len)
{
    if (path->full)
        return false;
    path->full = len + DOTS > path->start;
    if (path->full) {
        step = "...";
        len = DOTS;
    }
    path->start -= len;
    memcpy(path->bytes + path->start, step, len);
    return !path->full;
}

bool path_step_text(struct path *path, const char *text)
{
    return put_before(path, text, strlen(text));
}

bool path_step_key(struct path *path, const char *key, size_t len, bool first)
{
    char step[KEY_MOST + sizeof "[\"\"]"];
    bool name = path_is_name(key, len);
    snprintf(step, sizeof step, name ? (first ? "%.*s" : ".%.*s") : "[\"%.*s\"]",
             (int)utf8_cut(key, len, KEY_MOST), key);
    return path_step_text(path, step);
}

bool path_step_index(struct path *path, double index)
{
    char step[40];
    snprintf(step, sizeof step, "[%.0f]", index);
    return path_step_text(path, step);
}

const char *path_text(const struct path *path)
{
    return path->bytes + path->start;
}

const char *path_colon(const struct path *path)
{
    return *path_text(path) ? ": " : "";
}

bool path_is_name(const char *key, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return len > 0 && strspn(key, letters) == len && !(key[0] >= '0' && key[0] <= '9');
}
