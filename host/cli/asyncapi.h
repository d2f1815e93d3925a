/* asyncapi - what is registered, as an AsyncAPI 3 document (JSON) to standard output: a channel for
 * each subject, an operation for each handler and each dead letter. What handlers publish beside
 * that is not known without running them. */
#ifndef MOONBUS_CLI_ASYNCAPI_H
#define MOONBUS_CLI_ASYNCAPI_H

struct checked;
struct config;

void asyncapi_print(const struct checked *checked, const struct config *config);

#endif
