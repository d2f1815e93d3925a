/* api_digest - what objects in streams need of bytes (ADR-20): a SHA-256 that is fed piece by
 * piece, base64 for subjects, names that nobody else has. For the modules of the Lua side: no
 * script reaches it. */
#include <openssl/evp.h>

#include "api/api.h"

#define DIGEST_METATABLE "moonbus.digest"

struct digest {
    struct vm_held held;
    EVP_MD_CTX *context; /* owned; NULL once it is finished */
};

static void drop_digest(struct vm_held *held)
{
    EVP_MD_CTX_free(((struct digest *)held)->context);
}

static int collect_digest(lua_State *L)
{
    struct digest *digest = lua_touserdata(L, 1);
    EVP_MD_CTX *context = digest->context;
    digest->context = NULL;
    vm_unhold(&digest->held);
    EVP_MD_CTX_free(context);
    return 0;
}

/* core.digest(): one of no bytes. */
static int core_digest(lua_State *L)
{
    struct digest *digest = lua_newuserdata(L, sizeof *digest);
    *digest = (struct digest){.context = NULL};
    luaL_getmetatable(L, DIGEST_METATABLE);
    lua_setmetatable(L, -2);
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "not enough memory");
    vm_hold(L, &digest->held, drop_digest);
    return 1;
}

static struct digest *digest_at(lua_State *L)
{
    struct digest *digest = luaL_checkudata(L, 1, DIGEST_METATABLE);
    luaL_argcheck(L, digest->context, 1, "it is finished");
    return digest;
}

/* core.digest_add(digest, bytes) */
static int core_digest_add(lua_State *L)
{
    struct digest *digest = digest_at(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    EVP_DigestUpdate(digest->context, bytes, len);
    return 0;
}

/* Pushes base64 with the letters of URLs, and its padding: as clients write names and digests. */
static void push_base64url(lua_State *L, const unsigned char *bytes, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        unsigned bits = (unsigned)bytes[i] << 16 | (left > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        luaL_addchar(&buffer, letters[bits >> 18]);
        luaL_addchar(&buffer, letters[bits >> 12 & 63]);
        luaL_addchar(&buffer, left > 1 ? letters[bits >> 6 & 63] : '=');
        luaL_addchar(&buffer, left > 2 ? letters[bits & 63] : '=');
    }
    luaL_pushresult(&buffer);
}

/* core.digest_text(digest): "SHA-256=...", once. */
static int core_digest_text(lua_State *L)
{
    struct digest *digest = digest_at(L);
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_DigestFinal_ex(digest->context, bytes, &len);
    lua_pushliteral(L, "SHA-256=");
    EVP_MD_CTX_free(digest->context);
    digest->context = NULL;
    push_base64url(L, bytes, len);
    lua_concat(L, 2);
    return 1;
}

static int core_base64url(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    push_base64url(L, (const unsigned char *)bytes, len);
    return 1;
}

/* core.nuid(): a name that nobody else has. */
static int core_nuid(lua_State *L)
{
    char name[23];
    inbox_random(name, sizeof name - 1);
    lua_pushstring(L, name);
    return 1;
}

void api_digest_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"digest", core_digest},
        {"digest_add", core_digest_add},
        {"digest_text", core_digest_text},
        {"base64url", core_base64url},
        {"nuid", core_nuid},
        {NULL, NULL},
    };
    api_collected(L, DIGEST_METATABLE, collect_digest);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
