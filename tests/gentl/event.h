/* GenTL events. Only NEW_BUFFER ever fires; the others may be registered and stay quiet. */
#ifndef SEALREC_EVENT_H
#define SEALREC_EVENT_H

#include "camera.h"

void event_init(void); /* once per process */
/* source: what the event belongs to; camera: set for NEW_BUFFER of its stream. */
GC_ERROR event_register(void *source, struct camera *camera, EVENT_TYPE type, EVENT_HANDLE *out);
/* Wakes whoever waits with an abort and returns once they have left. */
GC_ERROR event_unregister(void *source, EVENT_TYPE type);
void event_unregister_all(void *source); /* NULL: of every source */

GC_ERROR event_get_data(EVENT_HANDLE handle, void *to, size_t *size, uint64_t timeout_ms);
GC_ERROR event_get_info(EVENT_HANDLE handle, EVENT_INFO_CMD command, INFO_DATATYPE *type, void *to,
                        size_t *size);
GC_ERROR event_flush(EVENT_HANDLE handle);
GC_ERROR event_kill(EVENT_HANDLE handle);

void event_signal(struct stream *stream); /* a frame was added, or a hold has ended */
/* The camera is gone: one wait ends with an abort. One only: VmbC calls again at once whatever the
 * error is, so that an error that stays costs it a whole processor. */
void event_abort(struct stream *stream);

#endif
