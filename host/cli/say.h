/* say - what a command says on standard error, besides its result: a line of text; where the log is
 * to be JSON, an object as the log has them, one line, whatever the level of the log.
 *
 *   moonbus pub: no_responders: nobody serves "echo"
 *   {"time":"...","level":"error","msg":"nobody serves \"echo\"","code":"no_responders"}
 *
 * JSON only where that is stated (--log-format, MOONBUS_LOG_FORMAT, log.format of the file as soon
 * as that was read): `auto` is for hosts, and a command's errors are for people. The main thread.
 */
#ifndef MOONBUS_CLI_SAY_H
#define MOONBUS_CLI_SAY_H

#include <stdarg.h>

#include "base/log.h"

struct cli;
struct config;

/* The settings are known: this is how it is to be said. */
void say_as(const struct config *config);

/* Something is wrong. A public code that the sentence begins with ("timeout: ...") is the object's
 * `code`. */
void say_error(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Good to know: of which server, from which file. */
void say_note(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, for who has a list of arguments. */
void say_any(const struct cli *cli, enum log_level level, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

#endif
