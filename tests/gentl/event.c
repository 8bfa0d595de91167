/* See event.h. */
#include "event.h"
#include "handles.h"
#include "info.h"
#include "stream.h"

#include <string.h>

struct event {
    void *handle; /* NULL: free */
    void *source;
    struct camera *camera;
    EVENT_TYPE type;
    bool dead;
    int waiting;
    int kills;
    int64_t fired;
    pthread_cond_t changed;
};

static struct event events[MAX_EVENTS];

void event_init(void) {
    for (int i = 0; i < MAX_EVENTS; i++) condition_init(&events[i].changed);
}

static struct event *find(const void *source, EVENT_TYPE type) {
    for (int i = 0; i < MAX_EVENTS; i++)
        if (events[i].handle && events[i].source == source && events[i].type == type)
            return &events[i];
    return NULL;
}

GC_ERROR event_register(void *source, struct camera *camera, EVENT_TYPE type, EVENT_HANDLE *out) {
    if (type < EVENT_ERROR || type > EVENT_MODULE) return GC_ERR_NOT_IMPLEMENTED;
    if (type == EVENT_NEW_BUFFER && !camera) return GC_ERR_NOT_IMPLEMENTED;
    if (find(source, type)) return GC_ERR_RESOURCE_IN_USE;
    for (int i = 0; i < MAX_EVENTS; i++) {
        struct event *event = &events[i];
        if (event->handle) continue;
        event->handle = handle_new(EVENT, event);
        if (!event->handle) return GC_ERR_RESOURCE_EXHAUSTED;
        event->source = source;
        event->camera = type == EVENT_NEW_BUFFER ? camera : NULL;
        event->type = type;
        event->dead = false;
        event->kills = 0;
        event->fired = 0;
        *out = event->handle;
        return GC_ERR_SUCCESS;
    }
    return GC_ERR_RESOURCE_EXHAUSTED;
}

static void discard(struct event *event) {
    if (event->dead) return; /* another thread is at it */
    event->dead = true;
    handle_drop(event->handle);
    pthread_cond_broadcast(&event->changed);
    while (event->waiting > 0) wait_until(&event->changed, NEVER);
    event->handle = NULL;
}

GC_ERROR event_unregister(void *source, EVENT_TYPE type) {
    struct event *event = find(source, type);
    if (!event) return GC_ERR_INVALID_PARAMETER;
    discard(event);
    return GC_ERR_SUCCESS;
}

void event_unregister_all(void *source) {
    for (int i = 0; i < MAX_EVENTS; i++)
        if (events[i].handle && (!source || events[i].source == source)) discard(&events[i]);
}

/* A frame that may be handed out now. wake_ns: when to look again although nothing happened. */
static struct buffer *deliverable(const struct event *event, int64_t *wake_ns) {
    if (!event->camera) return NULL;
    struct buffer *buffer = stream_next(&event->camera->stream, FILLED);
    const int64_t held_until = script_span_end(event->camera->index, HOLD, now_ns());
    if (buffer && held_until) {
        if (held_until < *wake_ns) *wake_ns = held_until;
        return NULL;
    }
    return buffer;
}

static int64_t deadline(uint64_t timeout_ms) {
    if (timeout_ms >= (uint64_t)INT64_MAX / 2000000) return NEVER;
    return now_ns() + (int64_t)timeout_ms * 1000000;
}

/* Wait for a frame, a kill, the event's end or the time-out. */
static GC_ERROR wait_for_frame(struct event *event, int64_t until_ns, struct buffer **buffer) {
    for (;;) {
        if (event->dead) return GC_ERR_ABORT;
        if (event->kills > 0) {
            event->kills--;
            return GC_ERR_ABORT;
        }
        int64_t wake_ns = until_ns;
        *buffer = deliverable(event, &wake_ns);
        if (*buffer) return GC_ERR_SUCCESS;
        if (now_ns() >= until_ns) return GC_ERR_TIMEOUT;
        wait_until(&event->changed, wake_ns);
    }
}

GC_ERROR event_get_data(EVENT_HANDLE handle, void *to, size_t *size, uint64_t timeout_ms) {
    struct event *event = handle_object(handle, EVENT);
    if (!event) return GC_ERR_INVALID_HANDLE;
    if (!size) return GC_ERR_INVALID_PARAMETER;
    if (to && event->camera && *size < sizeof(EVENT_NEW_BUFFER_DATA))
        return GC_ERR_BUFFER_TOO_SMALL;
    struct buffer *buffer = NULL;
    event->waiting++;
    const GC_ERROR error = wait_for_frame(event, deadline(timeout_ms), &buffer);
    event->waiting--;
    if (event->dead) pthread_cond_broadcast(&event->changed);
    if (error) return error;
    *size = sizeof(EVENT_NEW_BUFFER_DATA);
    if (!to) return GC_ERR_SUCCESS; /* asked for the size alone: the frame stays */
    const EVENT_NEW_BUFFER_DATA data = {buffer->handle, buffer->user};
    memcpy(to, &data, sizeof data);
    buffer->state = IDLE;
    buffer->fresh = true;
    event->fired++;
    return GC_ERR_SUCCESS;
}

GC_ERROR event_get_info(EVENT_HANDLE handle, EVENT_INFO_CMD command, INFO_DATATYPE *type, void *to,
                        size_t *size) {
    const struct event *event = handle_object(handle, EVENT);
    if (!event) return GC_ERR_INVALID_HANDLE;
    /* Never 0, not even for an event that carries nothing: VmbC keeps its event buffers in a pool
     * and resizes a used one with realloc(), which frees it for 0, and writes there afterwards. */
    const size_t data = event->camera ? sizeof(EVENT_NEW_BUFFER_DATA) : 64;
    const int waiting = event->camera ? stream_count(&event->camera->stream, FILLED) : 0;
    switch (command) {
        case EVENT_EVENT_TYPE: return info_i32(event->type, type, to, size);
        case EVENT_NUM_IN_QUEUE: return info_size((size_t)waiting, type, to, size);
        case EVENT_NUM_FIRED: return info_u64((uint64_t)event->fired, type, to, size);
        case EVENT_SIZE_MAX: return info_size(data, type, to, size);
        case EVENT_INFO_DATA_SIZE_MAX: return info_size(sizeof(void *), type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

GC_ERROR event_flush(EVENT_HANDLE handle) {
    struct event *event = handle_object(handle, EVENT);
    if (!event) return GC_ERR_INVALID_HANDLE;
    return event->camera ? stream_flush(event->camera, ACQ_QUEUE_OUTPUT_DISCARD) : GC_ERR_SUCCESS;
}

GC_ERROR event_kill(EVENT_HANDLE handle) {
    struct event *event = handle_object(handle, EVENT);
    if (!event) return GC_ERR_INVALID_HANDLE;
    event->kills++;
    pthread_cond_broadcast(&event->changed);
    return GC_ERR_SUCCESS;
}

static struct event *of_stream(const struct stream *stream) {
    for (int i = 0; i < MAX_EVENTS; i++)
        if (events[i].handle && events[i].camera && &events[i].camera->stream == stream)
            return &events[i];
    return NULL;
}

void event_signal(struct stream *stream) {
    struct event *event = of_stream(stream);
    if (event) pthread_cond_broadcast(&event->changed);
}

void event_abort(struct stream *stream) {
    struct event *event = of_stream(stream);
    if (!event) return;
    event->kills++;
    pthread_cond_broadcast(&event->changed);
}
