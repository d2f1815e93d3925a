/* completion - what shells complete, and the manual page: both made from the tables of commands and
 * options, to standard output. */
#ifndef MOONBUS_CLI_COMPLETION_H
#define MOONBUS_CLI_COMPLETION_H

void completion_bash(void);
void completion_zsh(void);
void completion_fish(void);

/* moonbus.1, in man(7). In manual.c. */
void manual_print(void);

#endif
