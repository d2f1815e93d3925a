# Commands for gdb that know moonbus. docs/internals/debugging.md shows them.
#
#   (gdb) source docs/internals/moonbus-gdb.py
#   (gdb) moonbus-threads      what each thread is at, in its innermost function of ours
#   (gdb) moonbus-tasks        each task of each script: its handler, its state, its Lua traceback
#
# A traceback calls a function of LuaJIT in the process: not in a core file, which has none to call,
# and only of tasks that wait.
import gdb


def value(expression):
    return gdb.parse_and_eval(expression)


def text(pointer):
    return pointer.string() if int(pointer) else ""


def linked(first, link="next"):
    while int(first):
        yield first
        first = first[link]


def find_app():
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        while frame:
            if frame.name() == "app_run":
                frame.select()
                return value("app")
            frame = frame.older()
    raise gdb.GdbError("no thread is in app_run: is this a moonbus that serves?")


def is_live():
    return "core" not in (gdb.execute("info inferiors", to_string=True) + gdb.execute("info files", to_string=True))


def traceback(state):
    # Pushes a text onto the coroutine's stack, reads it, and takes it off again.
    void = "(void *)%d" % int(state)
    value("((void (*)(void *, void *, char *, int))luaL_traceback)(%s, %s, 0, 0)" % (void, void))
    lines = value("((char *(*)(void *, int, long *))lua_tolstring)(%s, -1, 0)" % void).string()
    value("((void (*)(void *, int))lua_settop)(%s, -2)" % void)
    return lines.split("\n")[1:]


class Threads(gdb.Command):
    """What each thread is at, in its innermost function of moonbus."""

    def __init__(self):
        super().__init__("moonbus-threads", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        before = gdb.selected_thread()
        for thread in sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num):
            thread.switch()
            frame, where = gdb.newest_frame(), "not ours"
            while frame:
                place = frame.find_sal()
                if place.symtab and "/host/" in "/" + place.symtab.filename:
                    where = "%s  %s:%d" % (frame.name(), place.symtab.filename.split("host/")[-1], place.line)
                    if "/base/" not in place.symtab.filename:
                        break
                frame = frame.older()
            print("%4d  %-12s %s" % (thread.num, thread.name or "", where))
        before.switch()


class Tasks(gdb.Command):
    """Each task of each script: its handler, its state, its Lua traceback if it waits."""

    def __init__(self):
        super().__init__("moonbus-tasks", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        before, live = gdb.selected_thread(), is_live()
        for script in linked(find_app()["engine"]["scripts"]["first"]):
            for generation in linked(script["generations"]):
                print("%s generation %d" % (text(script["name"]), generation["number"]))
                for instance in linked(generation["instances"]):
                    print("  instance %s %s" % (instance, instance["state"]))
                    for task in linked(instance["tasks"]):
                        self.show(task, live)
        before.switch()

    def show(self, task, live):
        registration = task["root"]["registration"]
        delivery = task["root"]["delivery"]
        where = " #%d" % delivery["stream_sequence"] if int(delivery) and delivery["stream_sequence"] else ""
        print("    %s%s task %s %s  %s:%d" % (text(registration["handler"]), where, task["path"].string(),
                                          task["state"], text(registration["file"]), registration["line"]))
        if live and str(task["state"]) == "TASK_WAITING":
            for line in traceback(task["coroutine"]["L"]):
                print("      " + line)


Threads()
Tasks()
