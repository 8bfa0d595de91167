/* See stream.h. */
#include "stream.h"
#include "event.h"
#include "handles.h"
#include "info.h"

#include <stdlib.h>

enum { ALIGNMENT = 64, ANNOUNCE_MIN = 1 };

struct buffer *stream_next(struct stream *stream, enum buffer_state state) {
    struct buffer *first = NULL;
    for (int i = 0; i < stream->buffers; i++) {
        struct buffer *buffer = stream->buffer[i];
        if (buffer->state == state && (!first || buffer->order < first->order)) first = buffer;
    }
    return first;
}

int stream_count(const struct stream *stream, enum buffer_state state) {
    int count = 0;
    for (int i = 0; i < stream->buffers; i++) count += stream->buffer[i]->state == state;
    return count;
}

static struct buffer *find(const struct camera *camera, BUFFER_HANDLE handle) {
    struct buffer *buffer = handle_object(handle, BUFFER);
    for (int i = 0; i < camera->stream.buffers; i++)
        if (camera->stream.buffer[i] == buffer) return buffer;
    return NULL;
}

GC_ERROR stream_announce(struct camera *camera, void *memory, size_t size, void *user,
                         BUFFER_HANDLE *out) {
    struct stream *stream = &camera->stream;
    if (!out || !size) return GC_ERR_INVALID_PARAMETER;
    if (stream->buffers == MAX_BUFFERS) return GC_ERR_RESOURCE_EXHAUSTED;
    struct buffer *buffer = calloc(1, sizeof *buffer);
    const size_t whole = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *place = memory ? memory : whole < size ? NULL : aligned_alloc(ALIGNMENT, whole);
    void *handle = buffer && place ? handle_new(BUFFER, buffer) : NULL;
    if (!handle) {
        if (!memory) free(place);
        free(buffer);
        return GC_ERR_OUT_OF_MEMORY;
    }
    *buffer = (struct buffer){.handle = handle, .memory = place, .size = size, .user = user,
                              .owned = !memory};
    stream->buffer[stream->buffers++] = buffer;
    *out = handle;
    return GC_ERR_SUCCESS;
}

/* Pixels are copied without the lock: wait until this buffer is no longer written to. */
static void wait_for_pixels(struct camera *camera, BUFFER_HANDLE handle) {
    struct buffer *buffer;
    while ((buffer = find(camera, handle)) && buffer->state == FILLING)
        wait_until(&camera->settled, NEVER);
}

static void drop(struct stream *stream, struct buffer *buffer) {
    int i = 0;
    while (stream->buffer[i] != buffer) i++;
    stream->buffer[i] = stream->buffer[--stream->buffers];
    handle_drop(buffer->handle);
    if (buffer->owned) free(buffer->memory);
    free(buffer);
}

/* A frame that reached the host but never its user: the ledger must know. */
static void discard(const struct camera *camera, struct buffer *buffer) {
    if (buffer->state == FILLED)
        ledger_frame(camera->index, "discarded", buffer->acquisition, buffer->frame_id,
                     buffer->timestamp_ns, "");
    buffer->state = IDLE;
}

GC_ERROR stream_revoke(struct camera *camera, BUFFER_HANDLE handle, void **memory, void **user) {
    wait_for_pixels(camera, handle);
    struct buffer *buffer = find(camera, handle);
    if (!buffer) return GC_ERR_INVALID_HANDLE;
    if (memory) *memory = buffer->owned ? NULL : buffer->memory;
    if (user) *user = buffer->user;
    discard(camera, buffer);
    drop(&camera->stream, buffer);
    return GC_ERR_SUCCESS;
}

static void enqueue(struct camera *camera, struct buffer *buffer) {
    discard(camera, buffer);
    buffer->state = QUEUED;
    buffer->fresh = false;
    buffer->order = ++camera->stream.order;
}

GC_ERROR stream_queue(struct camera *camera, BUFFER_HANDLE handle) {
    struct buffer *buffer = find(camera, handle);
    if (!buffer) return GC_ERR_INVALID_HANDLE;
    if (buffer->state != IDLE) return GC_ERR_RESOURCE_IN_USE;
    enqueue(camera, buffer);
    return GC_ERR_SUCCESS;
}

static void flush_one(struct camera *camera, struct buffer *buffer, ACQ_QUEUE_TYPE operation) {
    const enum buffer_state was = buffer->state;
    switch (operation) {
        case ACQ_QUEUE_INPUT_TO_OUTPUT:
            /* Handed out unfilled, for the caller to collect: no frame, so no ledger row. */
            if (was == QUEUED) {
                buffer->state = IDLE;
                buffer->filled = 0;
            }
            break;
        case ACQ_QUEUE_OUTPUT_DISCARD:
            if (was == FILLED) discard(camera, buffer);
            break;
        case ACQ_QUEUE_ALL_TO_INPUT: enqueue(camera, buffer); break;
        case ACQ_QUEUE_UNQUEUED_TO_INPUT:
            if (was == IDLE) enqueue(camera, buffer);
            break;
        default: discard(camera, buffer); break;
    }
}

GC_ERROR stream_flush(struct camera *camera, ACQ_QUEUE_TYPE operation) {
    struct stream *stream = &camera->stream;
    if (operation < ACQ_QUEUE_INPUT_TO_OUTPUT || operation > ACQ_QUEUE_ALL_DISCARD)
        return GC_ERR_INVALID_PARAMETER;
    while (stream_count(stream, FILLING)) wait_until(&camera->settled, NEVER);
    /* Oldest first, so that the ledger's rows and a refilled queue keep the order. */
    struct buffer *filled;
    const bool output = operation == ACQ_QUEUE_OUTPUT_DISCARD || operation >= ACQ_QUEUE_ALL_DISCARD;
    while (output && (filled = stream_next(stream, FILLED))) discard(camera, filled);
    for (int i = 0; i < stream->buffers; i++) flush_one(camera, stream->buffer[i], operation);
    return GC_ERR_SUCCESS;
}

GC_ERROR stream_start(struct camera *camera, uint64_t frames) {
    struct stream *stream = &camera->stream;
    if (stream->grabbing) return GC_ERR_RESOURCE_IN_USE;
    if (camera_lost(camera)) return GC_ERR_IO;
    if (!frames) return GC_ERR_INVALID_PARAMETER;
    stream->grabbing = true;
    stream->left = frames;
    stream->delivered = stream->incomplete = stream->underrun = 0;
    stream->started++;
    return GC_ERR_SUCCESS;
}

GC_ERROR stream_stop(struct camera *camera) {
    camera->stream.grabbing = false;
    while (stream_count(&camera->stream, FILLING)) wait_until(&camera->settled, NEVER);
    return GC_ERR_SUCCESS;
}

void stream_close(struct camera *camera) {
    struct stream *stream = &camera->stream;
    if (stream->closing) { /* by another thread, which waits without the lock now and then */
        while (stream->closing) wait_until(&camera->settled, NEVER);
        return;
    }
    if (!stream->handle) return;
    stream->closing = true;
    handle_drop(stream->handle);
    stream_stop(camera);
    event_unregister_all(stream->handle);
    while (stream->buffers) stream_revoke(camera, stream->buffer[0]->handle, NULL, NULL);
    *stream = (struct stream){0};
    pthread_cond_broadcast(&camera->settled);
}

/* --- values ---------------------------------------------------------------------------------- */

GC_ERROR stream_info(const struct camera *camera, STREAM_INFO_CMD command, INFO_DATATYPE *type,
                     void *to, size_t *size) {
    const struct stream *s = &camera->stream;
    switch (command) {
        case STREAM_INFO_ID: return info_text("Stream0", type, to, size);
        case STREAM_INFO_TLTYPE: return info_text("U3V", type, to, size);
        case STREAM_INFO_NUM_DELIVERED:
            return info_u64((uint64_t)(s->delivered + s->incomplete), type, to, size);
        case STREAM_INFO_NUM_UNDERRUN: return info_u64((uint64_t)s->underrun, type, to, size);
        case STREAM_INFO_NUM_ANNOUNCED: return info_size((size_t)s->buffers, type, to, size);
        case STREAM_INFO_NUM_QUEUED:
            return info_size((size_t)stream_count(s, QUEUED), type, to, size);
        case STREAM_INFO_NUM_AWAIT_DELIVERY:
            return info_size((size_t)stream_count(s, FILLED), type, to, size);
        case STREAM_INFO_NUM_STARTED: return info_u64((uint64_t)s->started, type, to, size);
        case STREAM_INFO_PAYLOAD_SIZE: return info_size(camera_payload(camera), type, to, size);
        case STREAM_INFO_IS_GRABBING: return info_bool(s->grabbing, type, to, size);
        /* The size comes from the remote device's PayloadSize, as the standard prefers. */
        case STREAM_INFO_DEFINES_PAYLOADSIZE: return info_bool(false, type, to, size);
        case STREAM_INFO_NUM_CHUNKS_MAX: return info_size(0, type, to, size);
        case STREAM_INFO_BUF_ANNOUNCE_MIN: return info_size(ANNOUNCE_MIN, type, to, size);
        case STREAM_INFO_BUF_ALIGNMENT: return info_size(1, type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

GC_ERROR stream_read(const struct camera *camera, uint64_t address, int64_t *value) {
    const struct stream *s = &camera->stream;
    const int64_t values[] = {s->delivered, s->incomplete, s->underrun, s->started, s->buffers,
                              stream_count(s, QUEUED), stream_count(s, FILLED), s->grabbing,
                              ANNOUNCE_MIN};
    if (address < 0x1000 || address % 8 || (address - 0x1000) / 8 >= sizeof values / sizeof *values)
        return GC_ERR_INVALID_ADDRESS;
    *value = values[(address - 0x1000) / 8];
    return GC_ERR_SUCCESS;
}

GC_ERROR stream_buffer_info(const struct camera *camera, BUFFER_HANDLE handle,
                            BUFFER_INFO_CMD command, INFO_DATATYPE *type, void *to, size_t *size) {
    const struct buffer *b = find(camera, handle);
    if (!b) return GC_ERR_INVALID_HANDLE;
    const struct geometry *g = &b->geometry;
    switch (command) {
        case BUFFER_INFO_BASE: return info_pointer(b->memory, type, to, size);
        case BUFFER_INFO_SIZE: return info_size(b->size, type, to, size);
        case BUFFER_INFO_USER_PTR: return info_pointer(b->user, type, to, size);
        case BUFFER_INFO_TIMESTAMP:
        case BUFFER_INFO_TIMESTAMP_NS: return info_u64((uint64_t)b->timestamp_ns, type, to, size);
        case BUFFER_INFO_NEW_DATA: return info_bool(b->fresh, type, to, size);
        case BUFFER_INFO_IS_QUEUED:
            return info_bool(b->state == QUEUED || b->state == FILLING, type, to, size);
        case BUFFER_INFO_IS_ACQUIRING: return info_bool(b->state == FILLING, type, to, size);
        case BUFFER_INFO_IS_INCOMPLETE: return info_bool(b->incomplete, type, to, size);
        case BUFFER_INFO_TLTYPE: return info_text("U3V", type, to, size);
        case BUFFER_INFO_SIZE_FILLED:
        case BUFFER_INFO_DATA_SIZE: return info_size(b->filled, type, to, size);
        case BUFFER_INFO_WIDTH: return info_size((size_t)g->width, type, to, size);
        case BUFFER_INFO_HEIGHT: return info_size((size_t)g->height, type, to, size);
        case BUFFER_INFO_DELIVERED_IMAGEHEIGHT:
            return info_size(g->width ? b->filled / (frame_bytes(*g) / (size_t)g->height) : 0, type,
                             to, size);
        case BUFFER_INFO_XOFFSET: return info_size((size_t)b->offset_x, type, to, size);
        case BUFFER_INFO_YOFFSET: return info_size((size_t)b->offset_y, type, to, size);
        case BUFFER_INFO_XPADDING:
        case BUFFER_INFO_YPADDING:
        case BUFFER_INFO_IMAGEOFFSET:
        case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE: return info_size(0, type, to, size);
        case BUFFER_INFO_FRAMEID: return info_u64((uint64_t)b->frame_id, type, to, size);
        case BUFFER_INFO_IMAGEPRESENT: return info_bool(b->filled > 0, type, to, size);
        case BUFFER_INFO_PAYLOADTYPE: return info_size(PAYLOAD_TYPE_IMAGE, type, to, size);
        case BUFFER_INFO_PIXELFORMAT: return info_u64((uint64_t)g->format, type, to, size);
        case BUFFER_INFO_PIXELFORMAT_NAMESPACE:
            return info_u64(PIXELFORMAT_NAMESPACE_PFNC_32BIT, type, to, size);
        case BUFFER_INFO_CHUNKLAYOUTID: return info_u64(0, type, to, size);
        case BUFFER_INFO_PIXEL_ENDIANNESS: return info_i32(PIXELENDIANNESS_LITTLE, type, to, size);
        case BUFFER_INFO_DATA_LARGER_THAN_BUFFER:
            return info_bool(frame_bytes(*g) > b->size, type, to, size);
        case BUFFER_INFO_CONTAINS_CHUNKDATA: return info_bool(false, type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}
