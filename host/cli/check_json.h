/* check_json - what `moonbus check` has found, for programs: one JSON object to standard output. */
#ifndef MOONBUS_CLI_CHECK_JSON_H
#define MOONBUS_CLI_CHECK_JSON_H

struct checked;
struct err;

void check_print_json(const struct checked *checked);

/* Nothing was checked: the same object, with one finding of that name. */
void check_print_json_failed(const char *name, const struct err *err);

#endif
