/* settings - the settings of a command that is no host: whose fault it is when there are none. */
#include "cli/cli.h"

struct config *cli_config(const struct config_sources *sources, struct config **without,
                          struct err *err)
{
    struct err ignored;
    struct config_sources rest = *sources;
    struct config *config = config_load(sources, err);
    rest.no_file = true;
    *without = config ? NULL : config_load(&rest, &ignored);
    return config;
}
