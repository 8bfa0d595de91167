/* The data stream of an open camera: buffers and their queues. Needs sim_lock. */
#ifndef SEALREC_STREAM_H
#define SEALREC_STREAM_H

#include "camera.h"

/* First in, first out; NULL: none in this state. */
struct buffer *stream_next(struct stream *stream, enum buffer_state state);
int stream_count(const struct stream *stream, enum buffer_state state);

/* memory NULL: allocate. */
GC_ERROR stream_announce(struct camera *camera, void *memory, size_t size, void *user,
                         BUFFER_HANDLE *out);
GC_ERROR stream_revoke(struct camera *camera, BUFFER_HANDLE handle, void **memory, void **user);
GC_ERROR stream_queue(struct camera *camera, BUFFER_HANDLE handle);
GC_ERROR stream_flush(struct camera *camera, ACQ_QUEUE_TYPE operation);
GC_ERROR stream_start(struct camera *camera, uint64_t frames);
GC_ERROR stream_stop(struct camera *camera);
void stream_close(struct camera *camera); /* revokes every buffer */

GC_ERROR stream_info(const struct camera *camera, STREAM_INFO_CMD command, INFO_DATATYPE *type,
                     void *to, size_t *size);
GC_ERROR stream_buffer_info(const struct camera *camera, BUFFER_HANDLE handle,
                            BUFFER_INFO_CMD command, INFO_DATATYPE *type, void *to, size_t *size);
/* The registers of stream.xml. */
GC_ERROR stream_read(const struct camera *camera, uint64_t address, int64_t *value);

#endif
