/* unrefused - included first in each file of moonbus_sim that is not the host's: the broker and the
 * simulation itself are never refused memory, and theirs is not counted (spec/support/refuse.h). */
#ifndef MOONBUS_SPEC_UNREFUSED_H
#define MOONBUS_SPEC_UNREFUSED_H

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/thread.h"
#include "spec/support/refuse.h"

#define UNREFUSED(type, name, parameters, arguments)                                               \
    static inline type unrefused_##name parameters                                                 \
    {                                                                                              \
        refuse_pause();                                                                            \
        type result = name arguments;                                                              \
        refuse_resume();                                                                           \
        return result;                                                                             \
    }

UNREFUSED(void *, malloc, (size_t size), (size))
UNREFUSED(void *, calloc, (size_t count, size_t size), (count, size))
UNREFUSED(void *, realloc, (void *memory, size_t size), (memory, size))
UNREFUSED(char *, strdup, (const char *text), (text))
UNREFUSED(int, thread_start,
          (struct thread * thread, const char *name, void *(*run)(void *), void *arg,
           struct err *err),
          (thread, name, run, arg, err))
UNREFUSED(cJSON *, cJSON_Parse, (const char *text), (text))
UNREFUSED(cJSON *, cJSON_ParseWithLength, (const char *text, size_t len), (text, len))
UNREFUSED(char *, cJSON_PrintUnformatted, (const cJSON *item), (item))
UNREFUSED(cJSON *, cJSON_Duplicate, (const cJSON *item, int deep), (item, deep))
UNREFUSED(cJSON *, cJSON_CreateObject, (void), ())
UNREFUSED(cJSON *, cJSON_CreateArray, (void), ())
UNREFUSED(cJSON *, cJSON_CreateString, (const char *text), (text))
UNREFUSED(int, cJSON_AddItemToObject, (cJSON * object, const char *name, cJSON *item),
          (object, name, item))
UNREFUSED(cJSON *, cJSON_AddStringToObject, (cJSON * object, const char *name, const char *text),
          (object, name, text))
UNREFUSED(cJSON *, cJSON_AddNumberToObject, (cJSON * object, const char *name, double number),
          (object, name, number))
UNREFUSED(cJSON *, cJSON_AddRawToObject, (cJSON * object, const char *name, const char *json),
          (object, name, json))
UNREFUSED(cJSON *, cJSON_AddTrueToObject, (cJSON * object, const char *name), (object, name))
UNREFUSED(cJSON *, cJSON_AddFalseToObject, (cJSON * object, const char *name), (object, name))
UNREFUSED(cJSON *, cJSON_AddObjectToObject, (cJSON * object, const char *name), (object, name))
UNREFUSED(cJSON *, cJSON_AddArrayToObject, (cJSON * object, const char *name), (object, name))

/* What the simulation notes is its own, also where the host's functions do it. */
#define text_printf(...) (refuse_pause(), text_printf(__VA_ARGS__), refuse_resume())

#undef strdup /* some libraries have it as a macro */
#define malloc unrefused_malloc
#define calloc unrefused_calloc
#define realloc unrefused_realloc
#define strdup unrefused_strdup
#define thread_start unrefused_thread_start
#define cJSON_Parse unrefused_cJSON_Parse
#define cJSON_ParseWithLength unrefused_cJSON_ParseWithLength
#define cJSON_PrintUnformatted unrefused_cJSON_PrintUnformatted
#define cJSON_Duplicate unrefused_cJSON_Duplicate
#define cJSON_CreateObject unrefused_cJSON_CreateObject
#define cJSON_CreateArray unrefused_cJSON_CreateArray
#define cJSON_CreateString unrefused_cJSON_CreateString
#define cJSON_AddItemToObject unrefused_cJSON_AddItemToObject
#define cJSON_AddStringToObject unrefused_cJSON_AddStringToObject
#define cJSON_AddNumberToObject unrefused_cJSON_AddNumberToObject
#define cJSON_AddRawToObject unrefused_cJSON_AddRawToObject
#define cJSON_AddTrueToObject unrefused_cJSON_AddTrueToObject
#define cJSON_AddFalseToObject unrefused_cJSON_AddFalseToObject
#define cJSON_AddObjectToObject unrefused_cJSON_AddObjectToObject
#define cJSON_AddArrayToObject unrefused_cJSON_AddArrayToObject

#endif
