/* What the files with exported functions share. Each function takes the lock, finds what its handle
 * stands for, hands the work to the module that knows and notes the error for GCGetLastError:
 *
 *     BEGIN;
 *     NEED(condition, error if it does not hold);
 *     result = ...;
 *     END;
 */
#ifndef SEALREC_API_H
#define SEALREC_API_H

#include "camera.h"
#include "handles.h"
#include "info.h"

extern bool api_initialised;
extern void *api_system, *api_interface; /* handles; NULL: closed */

GC_ERROR api_note(GC_ERROR error);
GC_ERROR api_device_info(const struct camera *camera, DEVICE_INFO_CMD command,
                         INFO_DATATYPE *type, void *to, size_t *size);

#define BEGIN                                                                    \
    pthread_mutex_lock(&sim_lock);                                               \
    GC_ERROR result = api_initialised ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED; \
    do {                                                                         \
        if (result) break
#define NEED(condition, error) \
    if (!(condition)) {        \
        result = (error);      \
        break;                 \
    }
#define END                          \
    }                                \
    while (0);                       \
    pthread_mutex_unlock(&sim_lock); \
    return api_note(result)

#endif
