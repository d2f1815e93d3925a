/* NKeys of users: base32 of a prefix, the key and its CRC-16. */
#include "bus/link/nats_nkey.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

enum { NKEY_SEED_TEXT = 58, NKEY_SEED_RAW = 36, NKEY_PUBLIC_RAW = 35 };

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static uint16_t crc16(const unsigned char *bytes, size_t len)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint16_t)(bytes[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

static bool base32_decode(const char *text, size_t len, unsigned char *out)
{
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(base32, text[i], sizeof base32 - 1);
        if (!digit)
            return false;
        held = (held << 5 | (unsigned)(digit - base32)) & 0xffff;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            *out++ = (unsigned char)(held >> bits);
        }
    }
    return true;
}

static void base32_encode(const unsigned char *bytes, size_t len, char *out)
{
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < len; i++) {
        held = (held << 8 | bytes[i]) & 0xffff;
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            *out++ = base32[held >> bits & 31];
        }
    }
    if (bits)
        *out++ = base32[held << (5 - bits) & 31];
    *out = '\0';
}

bool nats_nkey_public(const char *seed_text, char out[NATS_NKEY_PUBLIC])
{
    unsigned char seed[NKEY_SEED_RAW], public[NKEY_PUBLIC_RAW];
    size_t key_len = 32;
    bool ok = base32_decode(seed_text, NKEY_SEED_TEXT, seed) &&
              crc16(seed, 34) == (uint16_t)(seed[34] | seed[35] << 8);
    EVP_PKEY *key = ok ? EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed + 2, 32) : NULL;
    ok = key && EVP_PKEY_get_raw_public_key(key, public + 1, &key_len) == 1 && key_len == 32;
    EVP_PKEY_free(key);
    OPENSSL_cleanse(seed, sizeof seed);
    if (!ok)
        return false;
    public[0] = 20 << 3; /* the prefix of a user: 'U' */
    uint16_t crc = crc16(public, 33);
    public[33] = (unsigned char)(crc & 0xff);
    public[34] = (unsigned char)(crc >> 8);
    base32_encode(public, sizeof public, out);
    return true;
}

const char *nats_nkey_seed(const char *text)
{
    while (*text) {
        text += strspn(text, " \t\r\n");
        size_t len = strcspn(text, " \t\r\n");
        if (len == NKEY_SEED_TEXT && strncmp(text, "SU", 2) == 0)
            return text;
        text += len;
    }
    return NULL;
}
