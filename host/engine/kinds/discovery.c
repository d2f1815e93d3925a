/* discovery - the services that serve, and the answers about them. */
#include "engine/kinds/discovery.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/bus.h"
#include "engine/kinds/whole_json.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

enum verb { VERB_PING, VERB_INFO, VERB_STATS, VERBS };

static const char *const verb_names[VERBS] = {"PING", "INFO", "STATS"};
static const char *const type_names[VERBS] = {"ping", "info", "stats"};

#define ID_DIGITS 22
/* Whoever may ask may ask without end, and all messages wait on the thread that answers. So making
 * answers is to take one part in so many of its time, all services together; what would take more,
 * more than that of a second at once, is the last answer again. */
#define PART 20
#define AT_ONCE_NS NS_PER_S
static const char without[] = "nobody finds this process's services (nats micro); they serve all "
                              "the same. To be found it must subscribe to $SRV.>";

struct known;

/* One subscription; what it is given to as owner. */
struct inquiry {
    struct discovery *discovery; /* not owned */
    struct known *service;       /* NULL: all of them are asked */
    enum verb verb;
    struct link_sub *sub; /* the link's; NULL: nobody listens */
};

/* A source that serves. */
struct statement {
    struct statement *prev, *next;
    const struct source *source;             /* not owned; has the registration's generation */
    const struct registration *registration; /* the source's: changes with it */
    char *data; /* owned: what its script says of it, as JSON; or NULL */
};

struct known {
    struct known *next;
    char *name; /* owned */
    char id[ID_DIGITS + 1];
    int64_t started_ns;
    struct statement *stated, *endpoints; /* owned, in the order in which they came */
    struct inquiry questions[2][VERBS];   /* for its name; for its id as well */
    char *answers[VERBS]; /* the last ones, owned (cJSON's); NULL: none, or it has changed since */
    uint64_t paid_ns;     /* until then the time that they took is used up */
    /* What its endpoints have of their own, as it was too large; and that was logged. */
    bool left_out[VERBS], told[VERBS];
};

struct discovery {
    struct bus *bus;        /* not owned */
    struct link_flow *flow; /* the link's: answers disturb nobody */
    struct mutex lock;
    struct known *services; /* owned; also those that do not serve any more */
    struct inquiry all[VERBS];
    int serving; /* of services */
};

/* --- what is answered: with the lock held --- */

/* The registration's own, borrowed. */
static void put_metadata(cJSON *object, const struct registration *registration)
{
    const cJSON *metadata = registration->metadata;
    whole_json_put(object, "metadata",
                   cJSON_CreateObjectReference(metadata ? metadata->child : NULL));
}

static void put_counts(cJSON *object, const struct statement *endpoint)
{
    struct tally_book *book = &endpoint->source->script->tallies;
    const struct tally *tally = endpoint->registration->tally;
    char error[TALLY_ERROR_MAX];
    struct tally_sum sum;
    mutex_lock(&book->lock);
    tally_read(tally, &sum);
    memcpy(error, tally->error.text, sizeof error);
    mutex_unlock(&book->lock);
    uint64_t requests = sum.attempts, ns = sum.duration.sum_ns;
    whole_json_put_number(object, "num_requests", requests);
    whole_json_put_number(object, "num_errors", sum.outcomes[OUTCOME_FAILED]);
    whole_json_put_text(object, "last_error", error);
    whole_json_put_number(object, "processing_time", ns);
    whole_json_put_number(object, "average_processing_time", requests ? ns / requests : 0);
}

static cJSON *endpoint_json(const struct statement *endpoint, enum verb verb, bool whole)
{
    const struct registration *registration = endpoint->registration;
    cJSON *object = cJSON_CreateObject();
    whole_json_put_text(object, "name", registration->endpoint);
    whole_json_put_text(object, "subject", registration->subject);
    whole_json_put_text(object, "queue_group", registration->queue ? registration->queue : "");
    if (verb == VERB_INFO && whole)
        put_metadata(object, registration);
    else if (verb == VERB_INFO)
        whole_json_put(object, "metadata", cJSON_CreateObject());
    else
        put_counts(object, endpoint);
    if (verb == VERB_STATS && whole && endpoint->data)
        whole_json_put(object, "data", cJSON_CreateRaw(endpoint->data));
    return object;
}

static cJSON *endpoints_json(const struct known *service, enum verb verb, bool whole)
{
    const struct statement *endpoint;
    cJSON *list = cJSON_CreateArray();
    DL_FOREACH(service->endpoints, endpoint) {
        cJSON *item = endpoint_json(endpoint, verb, whole);
        if (!cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            whole_json_spoil(list);
        }
    }
    return list;
}

/* NULL: no memory. */
static char *service_json(const struct known *service, enum verb verb, bool whole)
{
    const struct registration *registration = service->stated->registration;
    char type[64], started[VALUE_TIME_BYTES];
    cJSON *object = cJSON_CreateObject();
    snprintf(type, sizeof type, "io.nats.micro.v1.%s_response", type_names[verb]);
    whole_json_put_text(object, "type", type);
    whole_json_put_text(object, "name", service->name);
    whole_json_put_text(object, "id", service->id);
    whole_json_put_text(object, "version", registration->version);
    put_metadata(object, registration);
    if (verb == VERB_INFO)
        whole_json_put_text(object, "description",
                            registration->description ? registration->description : "");
    if (verb == VERB_STATS)
        whole_json_put_text(object, "started",
                            value_format_time(service->started_ns, 3, started, sizeof started));
    if (verb != VERB_PING)
        whole_json_put(object, "endpoints", endpoints_json(service, verb, whole));
    char *text = cJSON_PrintUnformatted(object);
    cJSON_Delete(object);
    return text;
}

/* Better an answer without what its endpoints have of their own than none. */
static char *make_answer(const struct discovery *discovery, struct known *service, enum verb verb)
{
    char *text = service_json(service, verb, true);
    if (verb == VERB_PING || !text || strlen(text) <= link_max_payload(discovery->bus->publish))
        return text;
    cJSON_free(text);
    service->left_out[verb] = true;
    return service_json(service, verb, false);
}

/* The service's, until the lock is released; NULL: none. */
static const char *answer_of(const struct discovery *discovery, struct known *service,
                             enum verb verb)
{
    must_hold(&discovery->lock);
    uint64_t now_ns = clock_now_ns();
    if (!service->stated)
        return NULL;
    if (service->answers[verb] && service->paid_ns > now_ns + AT_ONCE_NS)
        return service->answers[verb];
    cJSON_free(service->answers[verb]);
    service->answers[verb] = make_answer(discovery, service, verb);
    uint64_t took_ns = clock_now_ns() - now_ns;
    service->paid_ns = (service->paid_ns > now_ns ? service->paid_ns : now_ns) +
                       took_ns * PART * (uint64_t)discovery->serving;
    return service->answers[verb];
}

/* What is stated has changed. */
static void forget_answers(struct known *service)
{
    for (int verb = 0; verb < VERBS; verb++) {
        cJSON_free(service->answers[verb]);
        service->answers[verb] = NULL;
    }
}

/* Services are only ever put before the first. */
static struct known *next_service(struct discovery *discovery, const struct known *service)
{
    mutex_lock(&discovery->lock);
    struct known *next = service ? service->next : discovery->services;
    mutex_unlock(&discovery->lock);
    return next;
}

static void answer(struct discovery *discovery, struct known *service, enum verb verb,
                   const char *reply)
{
    mutex_lock(&discovery->lock);
    const char *text = answer_of(discovery, service, verb);
    struct link_frame frame = {
        .subject = reply, .data = text, .len = text ? strlen(text) : 0, .flow = discovery->flow};
    if (text)
        link_send(discovery->bus->publish, LANE_BULK, &frame, NULL);
    bool tell = service->left_out[verb] && !service->told[verb];
    service->told[verb] |= tell;
    mutex_unlock(&discovery->lock);
    if (tell)
        log_warn("service \"%s\": the %s is left out, as all of it together is larger than the "
                 "server takes a message (max_payload)",
                 service->name,
                 verb == VERB_INFO ? "metadata of its endpoints" : "data of its statistics");
}

/* The delivery thread. The publisher chooses the reply subject: where a message is a command it
 * would be one in the host's name. */
static void on_message(void *owner, struct packet *packet)
{
    const struct inquiry *question = owner;
    struct discovery *discovery = question->discovery;
    const char *reply = packet->reply;
    if (!reply || reply[0] == '$' || jsapi_owns(discovery->bus->jsapi, reply))
        return;
    if (question->service) {
        answer(discovery, question->service, question->verb, reply);
        return;
    }
    struct known *service = NULL;
    while ((service = next_service(discovery, service)))
        answer(discovery, service, question->verb, reply);
}

/* --- who is asked: with the lock held --- */

static int listen_to(struct inquiry *question, const char *subject, struct err *err)
{
    struct link *link = question->discovery->bus->consume;
    if (!question->sub)
        question->sub = link_subscribe_optional(link, subject, without, on_message, question, err);
    return question->sub ? 0 : (int)err->code;
}

static void listen_no_more(struct inquiry *question)
{
    if (question->sub)
        link_unsubscribe(question->sub, NULL);
    question->sub = NULL;
}

static int listen_for(struct known *service, struct err *err)
{
    struct discovery *discovery = service->questions[0][0].discovery;
    char subject[400];
    int code = 0;
    must_hold(&discovery->lock);
    for (int verb = 0; verb < VERBS && !code; verb++) {
        snprintf(subject, sizeof subject, "$SRV.%s", verb_names[verb]);
        code = listen_to(&discovery->all[verb], subject, err);
        snprintf(subject, sizeof subject, "$SRV.%s.%s", verb_names[verb], service->name);
        code = code ? code : listen_to(&service->questions[0][verb], subject, err);
        snprintf(subject, sizeof subject, "$SRV.%s.%s.%s", verb_names[verb], service->name,
                 service->id);
        code = code ? code : listen_to(&service->questions[1][verb], subject, err);
    }
    return code;
}

static void ignore_for(struct known *service)
{
    struct discovery *discovery = service->questions[0][0].discovery;
    must_hold(&discovery->lock);
    for (int verb = 0; verb < VERBS; verb++) {
        listen_no_more(&service->questions[0][verb]);
        listen_no_more(&service->questions[1][verb]);
        if (discovery->serving == 0)
            listen_no_more(&discovery->all[verb]);
    }
}

static struct known *find_service(struct discovery *discovery, const char *name)
{
    struct known *service;
    must_hold(&discovery->lock);
    LL_FOREACH(discovery->services, service) {
        if (strcmp(service->name, name) == 0)
            return service;
    }
    return NULL;
}

static struct known *open_service(struct discovery *discovery, const char *name)
{
    must_hold(&discovery->lock);
    struct known *service = find_service(discovery, name);
    if (service || !(service = calloc(1, sizeof *service)))
        return service;
    service->name = strdup(name);
    if (!service->name) {
        free(service);
        return NULL;
    }
    inbox_random(service->id, ID_DIGITS);
    service->started_ns = clock_wall_ns();
    for (int i = 0; i < 2 * VERBS; i++)
        service->questions[i / VERBS][i % VERBS] = (struct inquiry){
            .discovery = discovery, .service = service, .verb = (enum verb)(i % VERBS)};
    LL_PREPEND(discovery->services, service);
    return service;
}

/* --- for everyone --- */

struct discovery *discovery_new(struct bus *bus)
{
    struct discovery *discovery = calloc(1, sizeof *discovery);
    if (!discovery)
        return NULL;
    discovery->bus = bus;
    mutex_init(&discovery->lock);
    for (int verb = 0; verb < VERBS; verb++)
        discovery->all[verb] = (struct inquiry){.discovery = discovery, .verb = (enum verb)verb};
    return discovery;
}

static void free_statement(struct statement *statement)
{
    if (statement)
        free(statement->data);
    free(statement);
}

static void free_statements(struct statement *list)
{
    struct statement *statement, *next;
    DL_FOREACH_SAFE(list, statement, next)
        free_statement(statement);
}

void discovery_free(struct discovery *discovery)
{
    struct known *service, *next;
    if (!discovery)
        return;
    LL_FOREACH_SAFE(discovery->services, service, next) {
        free_statements(service->stated);
        free_statements(service->endpoints);
        forget_answers(service);
        free(service->name);
        free(service);
    }
    mutex_destroy(&discovery->lock);
    free(discovery);
}

/* With the lock held; takes the statement, unless it fails. */
static int add_statement(struct discovery *discovery, struct known *service,
                         struct statement *statement, struct err *err)
{
    must_hold(&discovery->lock);
    forget_answers(service);
    if (statement->registration->endpoint) {
        DL_APPEND(service->endpoints, statement);
        return 0;
    }
    int code = service->stated ? 0 : listen_for(service, err);
    if (code) {
        ignore_for(service);
        return code;
    }
    discovery->serving += !service->stated;
    DL_APPEND(service->stated, statement);
    return 0;
}

int discovery_add(struct discovery *discovery, struct source *source, struct err *err)
{
    struct statement *statement = discovery ? calloc(1, sizeof *statement) : NULL;
    if (!statement)
        return err_set(err, ERR_MEMORY, "no memory for a service");
    mutex_lock(&discovery->lock);
    statement->source = source;
    statement->registration = source->registration;
    if (!discovery->flow)
        discovery->flow = link_flow_new(discovery->bus->publish, LANE_BULK);
    struct known *service = open_service(discovery, source->registration->service);
    int code = service && discovery->flow ? add_statement(discovery, service, statement, err)
                                          : err_set(err, ERR_MEMORY, "no memory for a service");
    mutex_unlock(&discovery->lock);
    if (code)
        free(statement);
    return code;
}

static struct statement **list_of(struct known *service, const struct source *source)
{
    return source->registration->endpoint ? &service->endpoints : &service->stated;
}

static struct statement *find_statement(struct known *service, const struct source *source)
{
    struct statement *statement;
    DL_SEARCH_SCALAR(*list_of(service, source), statement, source, source);
    return statement;
}

void discovery_remove(struct discovery *discovery, struct source *source)
{
    if (!discovery)
        return;
    mutex_lock(&discovery->lock);
    struct known *service = find_service(discovery, source->registration->service);
    struct statement *statement = service ? find_statement(service, source) : NULL;
    if (statement) {
        forget_answers(service);
        struct statement **list = list_of(service, source);
        DL_DELETE(*list, statement);
        if (list == &service->stated && !service->stated) {
            discovery->serving--;
            ignore_for(service);
        }
    }
    mutex_unlock(&discovery->lock);
    free_statement(statement);
}

/* Of several scripts that have the service each endpoint is of one. */
void discovery_set_data(struct discovery *discovery, const char *service, const char *endpoint,
                        const char *text)
{
    struct statement *statement = NULL;
    if (!discovery)
        return;
    char *data = text ? strdup(text) : NULL;
    mutex_lock(&discovery->lock);
    struct known *known = find_service(discovery, service);
    if (known) {
        DL_FOREACH(known->endpoints, statement) {
            if (strcmp(statement->registration->endpoint, endpoint) == 0)
                break;
        }
    }
    if (statement) {
        char *before = statement->data;
        statement->data = data;
        data = before;
        forget_answers(known);
    }
    mutex_unlock(&discovery->lock);
    free(data);
}

void discovery_note(struct source *source)
{
    struct discovery *discovery = source->scripts->discovery;
    if (!discovery)
        return;
    mutex_lock(&discovery->lock);
    struct known *service = find_service(discovery, source->registration->service);
    struct statement *statement = service ? find_statement(service, source) : NULL;
    if (statement) {
        forget_answers(service);
        statement->registration = source->registration;
    }
    mutex_unlock(&discovery->lock);
}

int discovery_list(struct discovery *discovery, struct service_stat *list, int most)
{
    const struct statement *endpoint;
    struct known *service;
    int count = 0;
    if (!discovery)
        return 0;
    mutex_lock(&discovery->lock);
    LL_FOREACH(discovery->services, service) {
        if (!service->stated || count++ >= most)
            continue;
        struct service_stat *stat = &list[count - 1];
        snprintf(stat->name, sizeof stat->name, "%s", service->name);
        snprintf(stat->version, sizeof stat->version, "%s", service->stated->registration->version);
        snprintf(stat->id, sizeof stat->id, "%s", service->id);
        stat->started_ns = service->started_ns;
        DL_COUNT(service->endpoints, endpoint, stat->endpoints);
    }
    mutex_unlock(&discovery->lock);
    return count;
}
