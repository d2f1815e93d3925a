-- The few calls of libc that the specs need, declared once: busted loads this module anew for
-- each file, but the FFI refuses a second declaration of a struct.
local ffi = require "ffi"

if not pcall(ffi.typeof, "struct moonbus_spec_pollfd") then
  ffi.cdef [[
    struct moonbus_spec_pollfd { int fd; short events, revents; };
    struct moonbus_spec_timespec { long tv_sec, tv_nsec; };
    struct moonbus_spec_sockaddr {
      unsigned short family, port; unsigned int address; char zero[8];
    };

    extern char **environ;
    int poll(struct moonbus_spec_pollfd *fds, unsigned long count, int timeout_ms);
    int clock_gettime(int clock, struct moonbus_spec_timespec *now);
    int getpid(void);
    long sysconf(int name);
    int spawn(const char *folder, const int streams[3], const char *const *argv, const char *const *env);
    int waitpid(int pid, int *status, int options);
    int kill(int pid, int signal);
    int setpriority(int which, unsigned int who, int priority);
    int open(const char *path, int flags, ...);
    int dup2(int from, int to);
    int close(int fd);
    int pipe2(int fds[2], int flags);
    long read(int fd, void *buffer, unsigned long size);
    long write(int fd, const void *buffer, unsigned long size);
    int chmod(const char *path, unsigned int mode);
    int mkdir(const char *path, unsigned int mode);
    int rmdir(const char *path);
    int unlink(const char *path);
    struct moonbus_spec_dirent {
      unsigned long inode; long offset; unsigned short length; unsigned char type; char name[256];
    };
    void *opendir(const char *path);
    struct moonbus_spec_dirent *readdir(void *folder);
    int closedir(void *folder);
    char *mkdtemp(char *template);
    char *realpath(const char *path, char *resolved);
    void free(void *pointer);
    char *strerror(int number);
    void *dlopen(const char *file, int flags);
    int socket(int domain, int type, int protocol);
    int bind(int fd, const struct moonbus_spec_sockaddr *address, unsigned int size);
    int setsockopt(int fd, int level, int option, const int *value, unsigned int size);
    int connect(int fd, const struct moonbus_spec_sockaddr *address, unsigned int size);
    int shutdown(int fd, int how);
    unsigned short htons(unsigned short host);
    unsigned int htonl(unsigned int host);
  ]]
end

local C = ffi.C
local posix = { C = C }

posix.signals = {
  HUP = 1, INT = 2, QUIT = 3, KILL = 9, USR1 = 10, USR2 = 12, ALRM = 14, TERM = 15, CONT = 18, STOP = 19,
  WINCH = 28,
}

function posix.error(what)
  error(what .. ": " .. ffi.string(C.strerror(ffi.errno())), 3)
end

local RTLD_NOW, RTLD_NODELETE = 2, 0x1000

-- A library by its name ("nats") or path, which stays in memory until the process has ended. By
-- ffi.load alone it goes with the Lua state, which is too early: its threads still run, and what
-- libraries do at exit finds each other half taken down (nats.c and OpenSSL free the same list).
function posix.load(name)
  C.dlopen(name:find "/" and name or ("lib%s.so"):format(name), RTLD_NOW + RTLD_NODELETE)
  return ffi.load(name)
end

-- The absolute path of something that exists.
function posix.absolute(path)
  local resolved = C.realpath(path, nil)
  if resolved == nil then return nil end
  local text = ffi.string(resolved)
  C.free(resolved)
  return text
end

-- The address 127.0.0.1:port, to bind or to connect to.
function posix.loopback(port)
  local address = ffi.new "struct moonbus_spec_sockaddr"
  address.family = 2
  address.port = C.htons(port)
  address.address = C.htonl(0x7f000001)
  return address
end

-- Below the ports that the kernel gives to outgoing connections.
local PORTS_FROM, SLOTS, PORTS_IN_SLOT = 12000, 100, 200
local SOCK_STREAM_CLOEXEC = 0x80001

-- A socket that is bound to the port; nil: somebody has it.
local function bind(port)
  local fd = C.socket(2, SOCK_STREAM_CLOEXEC, 0)
  if C.bind(fd, posix.loopback(port), 16) == 0 then return fd end
  C.close(fd)
end

-- Each runner has ports of its own, also for a server that is down at the moment: others look for
-- theirs at the same time. Who has bound the first port of a slot, for as long as this module
-- lives, has all of them.
local slot

local function take_slot()
  for index = 0, SLOTS - 1 do
    local first = PORTS_FROM + index * PORTS_IN_SLOT
    local fd = bind(first)
    if fd then
      slot = { first = first, last_given = 0, guard = newproxy(true) }
      getmetatable(slot.guard).__gc = function() C.close(fd) end
      return
    end
  end
  error "too many specs run at a time: no slot of ports is free"
end

-- A TCP port of 127.0.0.1 that nobody listens at, and that no other spec is given.
function posix.free_port()
  if not slot then take_slot() end
  for _ = 1, PORTS_IN_SLOT - 1 do
    slot.last_given = slot.last_given % (PORTS_IN_SLOT - 1) + 1
    local port = slot.first + slot.last_given
    local fd = bind(port)
    if fd then
      C.close(fd)
      return port
    end
  end
  error "no free port on the loopback"
end

-- A connection to 127.0.0.1:port on which `text` was sent; nil when nobody listens. The caller
-- closes it.
function posix.dial(port, text)
  local fd = C.socket(2, 1, 0)
  if C.connect(fd, posix.loopback(port), 16) ~= 0 or C.write(fd, text, #text) ~= #text then
    C.close(fd)
    return nil
  end
  return fd
end

-- What is written to it goes out at once (TCP_NODELAY).
function posix.hasten(fd)
  C.setsockopt(fd, 6, 1, ffi.new("int[1]", 1), 4)
end

-- What comes on a connection until its end, or until nothing comes for `seconds`; and which of the
-- two it was: true for its end.
function posix.read_all(fd, seconds)
  local chunks, buffer = {}, ffi.new "char[16384]"
  local waiting = ffi.new("struct moonbus_spec_pollfd[1]", { { fd = fd, events = 1 } })
  local ended = false
  while not ended and C.poll(waiting, 1, seconds * 1000) == 1 do
    local count = tonumber(C.read(fd, buffer, 16384))
    if count <= 0 then ended = true else chunks[#chunks + 1] = ffi.string(buffer, count) end
  end
  return table.concat(chunks), ended
end

-- An HTTP request to 127.0.0.1:port; header: lines that end in "\r\n". Status and body, or nil.
function posix.http(port, method, path, header)
  local fd = posix.dial(port, ("%s %s HTTP/1.0\r\nHost: 127.0.0.1\r\n%s\r\n")
    :format(method, path, header or ""))
  if not fd then return nil end
  local text = posix.read_all(fd, 60)
  C.close(fd)
  return tonumber(text:match "^HTTP/%S+ (%d+)"), text:match "\r\n\r\n(.*)$"
end

-- GET http://127.0.0.1:port/path: the body, or nil.
function posix.http_get(port, path)
  local _, body = posix.http(port, "GET", path)
  return body
end

return posix
