/* completion - scripts for bash, zsh and fish. */
#include "cli/completion.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* What an argument may be, where it is one of few; NULL: anything. */
static const char *values_of(const char *argument)
{
    static const char *const known[][2] = {{"LEVEL", "debug info warn error off"},
                                           {"FORMAT", "auto text json"}};
    for (size_t i = 0; argument && i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i][0], argument) == 0)
            return known[i][1];
    }
    return NULL;
}

/* The arguments of a command that is no file; NULL: anything. */
static bool print_words_of(const struct cli_command *command)
{
    if (strcmp(command->name, "completion") == 0)
        printf("bash zsh fish man");
    for (int i = 0; strcmp(command->name, "help") == 0 && i < cli_command_count; i++)
        printf("%s%s", i ? " " : "", cli_commands[i].name);
    return strcmp(command->name, "completion") == 0 || strcmp(command->name, "help") == 0;
}

static void print_names(const char *between)
{
    for (int i = 0; i < cli_command_count; i++)
        printf("%s%s", i ? between : "", cli_commands[i].name);
}

/* Each option that takes a value, once. */
static void print_values(void)
{
    struct cli_option option, earlier;
    for (int c = 0; c < cli_command_count; c++) {
        for (int i = 0; cli_option_at(&cli_commands[c], i, &option); i++) {
            bool seen = !option.argument;
            for (int d = 0; d < c && !seen; d++) {
                for (int j = 0; !seen && cli_option_at(&cli_commands[d], j, &earlier); j++)
                    seen = earlier.argument && strcmp(earlier.spelling, option.spelling) == 0;
            }
            if (seen)
                continue;
            const char *values = values_of(option.argument);
            printf("    %s", option.spelling);
            if (option.letter)
                printf("|-%c", option.letter);
            if (values)
                printf(") COMPREPLY=($(compgen -W '%s' -- \"$word\")); return ;;\n", values);
            else
                printf(") return ;;\n");
        }
    }
}

void completion_bash(void)
{
    struct cli_option option;
    printf("# bash completion of moonbus: source <(moonbus completion bash)\n"
           "_moonbus() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "    local command='' options='' words='' i\n"
           "    COMPREPLY=()\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        case ${COMP_WORDS[i]} in\n"
           "        ");
    print_names("|");
    printf(") command=${COMP_WORDS[i]}; break ;;\n"
           "        esac\n"
           "    done\n"
           "    case $before in\n");
    print_values();
    printf("    esac\n"
           "    case $command in\n"
           "    '') words='");
    print_names(" ");
    printf("' ;;\n");
    for (int c = 0; c < cli_command_count; c++) {
        printf("    %s) options='", cli_commands[c].name);
        for (int i = 0; cli_option_at(&cli_commands[c], i, &option); i++)
            printf("%s%s", i ? " " : "", option.spelling);
        printf("' words='");
        print_words_of(&cli_commands[c]);
        printf("' ;;\n");
    }
    printf("    esac\n"
           "    case $word in\n"
           "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
           "    *) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
           "    esac\n"
           "}\n"
           "complete -o bashdefault -o default -F _moonbus moonbus\n");
}

/* Inside '...' of a shell; `escaped`: with a backslash before them, for zsh's _arguments. */
static void print_quoted(const char *text, const char *escaped)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(escaped, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

/* fish knows one escape within quotes: the backslash before a quote. */
static void print_fish(const char *text)
{
    for (; *text; text++)
        printf(*text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
}

static void print_zsh_spec(const struct cli_option *option, const char *name)
{
    const char *values = values_of(option->argument);
    printf("      '*%s[", name);
    print_quoted(option->help, "[]:\\");
    printf("]");
    if (option->argument) {
        printf(":");
        print_quoted(option->argument, "[]:\\");
        if (values)
            printf(":(%s)", values);
        else
            printf(":_files");
    }
    printf("' \\\n");
}

static void print_zsh_command(const struct cli_command *command)
{
    struct cli_option option;
    printf("  %s)\n    _arguments -s \\\n", command->name);
    for (int i = 0; cli_option_at(command, i, &option); i++) {
        char letter[3] = {'-', option.letter, '\0'};
        print_zsh_spec(&option, option.spelling);
        if (option.letter)
            print_zsh_spec(&option, letter);
    }
    printf("      '*:argument:");
    printf("(");
    bool words = print_words_of(command);
    printf(words ? ")'\n" : ")'\n");
    printf("    %s\n    ;;\n", words ? "" : "_files");
}

void completion_zsh(void)
{
    printf("#compdef moonbus\n"
           "# zsh completion of moonbus: into a folder of $fpath as _moonbus, or\n"
           "# source <(moonbus completion zsh)\n"
           "_moonbus() {\n"
           "  local -a commands\n"
           "  commands=(\n");
    for (int c = 0; c < cli_command_count; c++) {
        printf("    '%s:", cli_commands[c].name);
        print_quoted(cli_commands[c].summary, ":\\");
        printf("'\n");
    }
    printf("  )\n"
           "  case ${words[(r)");
    print_names("|");
    printf("]} in\n");
    for (int c = 0; c < cli_command_count; c++)
        print_zsh_command(&cli_commands[c]);
    printf("  *) _describe command commands ;;\n"
           "  esac\n"
           "}\n"
           "if [ \"$funcstack[1]\" = \"_moonbus\" ]; then\n"
           "  _moonbus \"$@\"\n"
           "else\n"
           "  compdef _moonbus moonbus\n"
           "fi\n");
}

static void print_fish_option(const struct cli_command *command, const struct cli_option *option)
{
    const char *values = values_of(option->argument);
    printf("complete -c moonbus -n '__fish_seen_subcommand_from %s' -l %s", command->name,
           option->spelling + 2);
    if (option->letter)
        printf(" -s %c", option->letter);
    if (option->argument)
        printf(" -r");
    if (values)
        printf(" -f -a '%s'", values);
    printf(" -d '");
    print_fish(option->help);
    printf("'\n");
}

void completion_fish(void)
{
    struct cli_option option;
    printf("# fish completion of moonbus: moonbus completion fish | source\n");
    for (int c = 0; c < cli_command_count; c++) {
        const struct cli_command *command = &cli_commands[c];
        printf("complete -c moonbus -f -n __fish_use_subcommand -a %s -d '", command->name);
        print_fish(command->summary);
        printf("'\n");
        for (int i = 0; cli_option_at(command, i, &option); i++)
            print_fish_option(command, &option);
        if (strcmp(command->name, "completion") == 0 || strcmp(command->name, "help") == 0) {
            printf("complete -c moonbus -f -n '__fish_seen_subcommand_from %s' -a '",
                   command->name);
            print_words_of(command);
            printf("'\n");
        }
    }
}

int cli_completion(struct cli *cli)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } kinds[] = {{"bash", completion_bash},
                 {"zsh", completion_zsh},
                 {"fish", completion_fish},
                 {"man", manual_print}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(cli->args[0], kinds[i].name) == 0) {
            kinds[i].print();
            return CLI_OK;
        }
    }
    return cli_usage(cli, "\"%s\": one of bash, zsh, fish, man", cli->args[0]);
}
