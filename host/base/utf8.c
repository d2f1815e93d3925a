/* Which bytes may follow which, and where a text may be cut. */
#include "base/utf8.h"

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* By the first byte alone; 0: a character cannot begin with it. */
static size_t wanted(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4)
        return 0;
    return first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
}

size_t utf8_length(const char *bytes, size_t left)
{
    unsigned char first = (unsigned char)bytes[0];
    size_t len = wanted(first);
    if (len <= 1)
        return len;
    if (len > left)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (!continues(bytes[i]))
            return 0;
    }
    unsigned char second = (unsigned char)bytes[1];
    bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
    bool surrogate = first == 0xED && second > 0x9F;
    bool too_high = first == 0xF4 && second > 0x8F;
    return overlong || surrogate || too_high ? 0 : len;
}

size_t utf8_decode(const char *bytes, size_t left, uint32_t *point)
{
    size_t len = utf8_length(bytes, left);
    unsigned char first = (unsigned char)bytes[0];
    *point = len <= 1 ? first : first & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++)
        *point = *point << 6 | ((unsigned char)bytes[i] & 0x3F);
    return len;
}

bool utf8_is_valid(const char *bytes, size_t len)
{
    size_t character;
    for (size_t i = 0; i < len; i += character) {
        if ((character = utf8_length(bytes + i, len - i)) == 0)
            return false;
    }
    return true;
}

size_t utf8_whole(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 3 && continues(text[start - 1]))
        start--;
    if (start == 0)
        return len;
    return len - start + 1 < wanted((unsigned char)text[start - 1]) ? start - 1 : len;
}

size_t utf8_cut(const char *text, size_t len, size_t most)
{
    return len <= most ? len : utf8_whole(text, most);
}
