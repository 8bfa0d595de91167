/* The sensor's thread: exposes frames at absolute deadlines and puts them into queued buffers. */
#include "camera.h"
#include "event.h"
#include "stream.h"

#include <stdio.h>
#include <sys/resource.h>

/* The thread goes on exposing until one of these. */
static bool ended(const struct camera *camera) {
    return camera->stop || camera->quit || camera_lost(camera);
}

void sensor_start(struct camera *camera) {
    if (camera->acquiring) return;
    camera->acquiring = true;
    camera->stop = false;
    camera->software_triggers = 0;
    pthread_cond_broadcast(&camera->wake);
}

void sensor_stop(struct camera *camera) {
    camera->stop = true;
    pthread_cond_broadcast(&camera->wake);
    while (camera->acquiring) wait_until(&camera->settled, NEVER);
}

static void enter(struct camera *camera, int64_t id, int64_t exposure_ns, const char *what,
                  const char *why) {
    ledger_frame(camera->index, what, camera->acquisition, id,
                 script_camera_clock(camera->index, exposure_ns), why);
}

static void deliver(struct camera *camera, int64_t id, int64_t exposure_ns) {
    struct stream *stream = &camera->stream;
    struct buffer *buffer = stream->grabbing ? stream_next(stream, QUEUED) : NULL;
    if (!buffer) {
        stream->underrun += stream->grabbing;
        enter(camera, id, exposure_ns, "no_buffer", stream->grabbing ? "" : "not grabbing");
        return;
    }
    const size_t payload = frame_bytes(camera->picture.geometry);
    const bool torn = camera->incomplete_left > 0;
    size_t filled = torn ? (size_t)((double)payload * camera->incomplete_filled) : payload;
    if (filled > buffer->size) filled = buffer->size;
    buffer->state = FILLING;
    pthread_mutex_unlock(&sim_lock);
    picture_fill(&camera->picture, id, buffer->memory, filled);
    pthread_mutex_lock(&sim_lock);
    buffer->geometry = camera->picture.geometry;
    buffer->offset_x = camera->settings.offset_x;
    buffer->offset_y = camera->settings.offset_y;
    buffer->acquisition = camera->acquisition;
    buffer->frame_id = id;
    buffer->timestamp_ns = script_camera_clock(camera->index, exposure_ns);
    buffer->filled = filled;
    buffer->incomplete = filled < payload;
    camera->incomplete_left -= torn;
    stream->incomplete += buffer->incomplete;
    stream->delivered += !buffer->incomplete;
    enter(camera, id, exposure_ns, buffer->incomplete ? "incomplete" : "delivered", "");
    buffer->state = FILLED;
    buffer->order = ++stream->order;
    if (stream->left != GENTL_INFINITE && --stream->left == 0) stream->grabbing = false;
    event_signal(stream);
    pthread_cond_broadcast(&camera->settled);
}

/* What the script wants done to this frame or from it on. */
static void apply_faults(struct camera *camera, int64_t exposure_ns) {
    struct fault *fault;
    while ((fault = script_due(camera->index, camera->next_id, exposure_ns))) {
        char line[96];
        snprintf(line, sizeof line, "line at byte %lld before frame %lld",
                 (long long)fault->offset, (long long)camera->next_id);
        ledger_event(camera->index, "fault", line);
        if (fault->verb == SKIP && fault->for_ns != NEVER)
            camera->skip_until_ns = exposure_ns + fault->for_ns;
        else if (fault->verb == SKIP)
            camera->skip_left += fault->count;
        else if (fault->verb == INCOMPLETE) {
            camera->incomplete_left += fault->count;
            camera->incomplete_filled = fault->value < 0 ? 0 : fault->value > 1 ? 1 : fault->value;
        } else if (fault->verb == IDS)
            camera->next_id = (int64_t)fault->value;
        script_fire(fault, exposure_ns);
    }
}

/* One frame, exposed at exposure_ns. False: a stall began before it and the sensor was idle. */
static bool one_frame(struct camera *camera, int64_t exposure_ns) {
    apply_faults(camera, exposure_ns);
    if (camera_lost(camera) || script_span_end(camera->index, STALL, exposure_ns)) return false;
    const int64_t id = camera->next_id++;
    if (camera->skip_left > 0 || exposure_ns < camera->skip_until_ns) {
        camera->skip_left -= camera->skip_left > 0;
        enter(camera, id, exposure_ns, "skipped", "");
        return true;
    }
    deliver(camera, id, exposure_ns);
    return true;
}

/* With the trigger on: wait for one. Returns false when the acquisition ends first. */
static bool triggered(struct camera *camera, int64_t *exposure_ns) {
    while (!ended(camera)) {
        struct fault *pulse = script_trigger(camera->index);
        const bool hardware = pulse && camera->settings.trigger_source;
        if (hardware && --pulse->count <= 0) script_fire(pulse, -1);
        if (hardware || camera->software_triggers > 0) {
            camera->software_triggers -= !hardware;
            const int64_t now = now_ns();
            if (*exposure_ns < now) *exposure_ns = now;
            return true;
        }
        if (!camera->settings.trigger_mode) return true;
        wait_until(&camera->wake, NEVER);
    }
    return false;
}

static int64_t frames_wanted(const struct settings *settings) {
    if (settings->mode == 0) return INT64_MAX;
    return settings->mode == 1 ? 1 : settings->frame_count;
}

static int64_t ready_ns(const struct camera *camera, int64_t exposure_ns) {
    return exposure_ns + (int64_t)(camera->settings.exposure_us * 1e3) +
           settings_readout_ns(camera);
}

static void expose_frames(struct camera *camera) {
    int64_t left = frames_wanted(&camera->settings);
    int64_t exposure_ns = now_ns();
    while (left > 0 && !ended(camera)) {
        if (camera->settings.trigger_mode && !triggered(camera, &exposure_ns)) return;
        while (!ended(camera) && wait_until(&camera->wake, ready_ns(camera, exposure_ns))) {}
        if (ended(camera)) return;
        const int64_t stalled_until = script_span_end(camera->index, STALL, exposure_ns);
        if (stalled_until) {
            if (!wait_until(&camera->wake, stalled_until)) exposure_ns = stalled_until;
            continue;
        }
        if (!one_frame(camera, exposure_ns)) continue;
        left--;
        /* From the deadline, not from now: a late thread catches up and times never drift. */
        exposure_ns += (int64_t)(1e9 / settings_rate(camera));
    }
}

static void acquire(struct camera *camera) {
    const struct settings *s = &camera->settings;
    const struct geometry geometry = {s->width, s->height, s->format};
    camera->acquisition++;
    camera->next_id = camera->setup->first_id;
    camera->skip_left = camera->skip_until_ns = camera->incomplete_left = 0;
    pthread_mutex_unlock(&sim_lock);
    const bool rendered = picture_render(&camera->picture, geometry);
    pthread_mutex_lock(&sim_lock);
    char size[64];
    snprintf(size, sizeof size, "%dx%d 0x%08x", geometry.width, geometry.height,
             (unsigned)geometry.format);
    ledger_event(camera->index, "start", size);
    if (rendered) expose_frames(camera);
    ledger_event(camera->index, "stop", rendered ? "" : "no memory");
}

void *sensor_main(void *argument) {
    struct camera *camera = argument;
    /* A sensor does not share the host's processors. Only root may; without it frames are exposed
     * in time all the same, but may be delivered late on a busy machine. */
    setpriority(PRIO_PROCESS, 0, -15);
    pthread_mutex_lock(&sim_lock);
    while (!camera->quit) {
        if (!camera->acquiring) {
            wait_until(&camera->wake, NEVER);
            continue;
        }
        acquire(camera);
        camera->acquiring = false;
        pthread_cond_broadcast(&camera->settled);
    }
    pthread_mutex_unlock(&sim_lock);
    return NULL;
}
