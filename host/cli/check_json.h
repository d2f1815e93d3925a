/* check_json - what `moonbus check` has found, for programs: one JSON object to standard output. */
#ifndef MOONBUS_CLI_CHECK_JSON_H
#define MOONBUS_CLI_CHECK_JSON_H

struct checked;
struct err;

void check_print_json(const struct checked *checked);

/* There is nothing to check: the config, or a path. */
void check_print_json_refused(const struct err *err);

#endif
