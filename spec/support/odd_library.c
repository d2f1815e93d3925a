/* odd_library - preloaded into a host, it stands before nats.c and makes it one that the host's own
 * wire cannot be laid through. ODD_LIBRARY says how:
 *
 *   events   it does not know what an event loop is
 *   socket   it goes on with its own socket, whatever is put in its place */
#include <dlfcn.h>
#include <nats/nats.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is(const char *what)
{
    const char *odd = getenv("ODD_LIBRARY");
    return odd && strcmp(odd, what) == 0;
}

natsStatus natsOptions_SetEventLoop(natsOptions *options, void *loop, natsEvLoop_Attach attach,
                                    natsEvLoop_ReadAddRemove read, natsEvLoop_WriteAddRemove write,
                                    natsEvLoop_Detach detach)
{
    typedef natsStatus set(natsOptions *, void *, natsEvLoop_Attach, natsEvLoop_ReadAddRemove,
                           natsEvLoop_WriteAddRemove, natsEvLoop_Detach);
    if (is("events"))
        return NATS_OK;
    set *real = (set *)dlsym(RTLD_NEXT, "natsOptions_SetEventLoop");
    return real(options, loop, attach, read, write, detach);
}

int dup3(int from, int to, int flags)
{
    typedef int duplicate(int, int, int);
    if (is("socket"))
        return to;
    duplicate *real = (duplicate *)dlsym(RTLD_NEXT, "dup3");
    return real(from, to, flags);
}
