/* The camera as the host sees it: presence, opening, and the registers behind camera.xml. */
#include "camera.h"
#include "event.h"
#include "handles.h"
#include "info.h"
#include "stream.h"

#include <stdio.h>
#include <string.h>

struct camera cameras[MAX_CAMERAS];

enum { INTEGERS = 0x1000, FLOATS = 0x2000, TEXTS = 0x3000, TEXTS_END = 0x3400 };

/* The addresses of camera.xml. */
enum {
    SENSOR_WIDTH = 0x1000, SENSOR_HEIGHT = 0x1008, WIDTH_MAX = 0x1010, HEIGHT_MAX = 0x1018,
    WIDTH = 0x1020, HEIGHT = 0x1028, OFFSET_X = 0x1030, OFFSET_Y = 0x1038, OFFSET_X_MAX = 0x1040,
    OFFSET_Y_MAX = 0x1048, PIXEL_FORMAT = 0x1050, PAYLOAD_SIZE = 0x1058, BINNING_X = 0x1060,
    BINNING_Y = 0x1068, ACQUISITION_MODE = 0x1070, FRAME_COUNT = 0x1078,
    ACQUISITION_START = 0x1080, ACQUISITION_STOP = 0x1088, RATE_ENABLE = 0x1090,
    EXPOSURE_AUTO = 0x1098, GAIN_AUTO = 0x10a0, WHITE_AUTO = 0x10a8, TRIGGER_SELECTOR = 0x10b0,
    TRIGGER_MODE = 0x10b8, TRIGGER_SOURCE = 0x10c0, TRIGGER_SOFTWARE = 0x10c8,
    PARAMS_LOCKED = 0x10d0, TIMESTAMP_LATCH = 0x10d8, TIMESTAMP_VALUE = 0x10e0,
    THROUGHPUT = 0x10f0, ACQUIRING = 0x10f8,
    RATE = 0x2000, RATE_MIN = 0x2008, RATE_MAX = 0x2010, EXPOSURE = 0x2018, GAIN = 0x2030,
    TEMPERATURE_C = 0x2038,
    USER_ID = 0x3140
};

static const double rate_min_hz = 0.1;

bool camera_start(int index) {
    struct camera *camera = &cameras[index];
    memset(camera, 0, sizeof *camera);
    camera->index = index;
    camera->setup = script_camera(index);
    const bool large = !strcmp(camera->setup->model, "230c");
    camera->sensor_width = large ? 1920 : 1456;
    camera->sensor_height = large ? 1200 : 1088;
    snprintf(camera->model, TEXT, "Sim 1800 U-%s", large ? "230c" : "158c");
    condition_init(&camera->wake);
    condition_init(&camera->settled);
    settings_default(camera);
    return camera->thread_runs = thread_start(&camera->thread, sensor_main, camera);
}

void camera_finish(int index) {
    struct camera *camera = &cameras[index];
    camera_close(camera);
    while (camera->closing) wait_until(&camera->settled, NEVER);
    camera->quit = true;
    pthread_cond_broadcast(&camera->wake);
    if (camera->thread_runs) {
        pthread_mutex_unlock(&sim_lock);
        pthread_join(camera->thread, NULL);
        pthread_mutex_lock(&sim_lock);
    }
    camera->thread_runs = false;
    picture_free(&camera->picture);
}

/* --- presence -------------------------------------------------------------------------------- */

bool camera_present(const struct camera *camera) {
    return !script_span_end(camera->index, REMOVE, now_ns());
}

int32_t camera_access_status(const struct camera *camera) {
    if (camera->handle) return DEVICE_ACCESS_STATUS_OPEN_READWRITE;
    const bool busy = script_span_end(camera->index, BUSY, now_ns()) ||
                      script_claimed_elsewhere(camera->index);
    return busy ? DEVICE_ACCESS_STATUS_BUSY : DEVICE_ACCESS_STATUS_READWRITE;
}

bool camera_lost(const struct camera *camera) {
    return camera->handle && script_removed_at(camera->index, now_ns()) > camera->opened_ns;
}

GC_ERROR camera_open(struct camera *camera) {
    if (!camera_present(camera)) return GC_ERR_NOT_AVAILABLE;
    if (camera->handle || script_span_end(camera->index, BUSY, now_ns()) ||
        !script_claim(camera->index)) {
        ledger_event(camera->index, "open_refused", "");
        return GC_ERR_RESOURCE_IN_USE;
    }
    camera->handle = handle_new(DEVICE, camera);
    camera->port = handle_new(REMOTE, camera);
    camera->opened_ns = now_ns();
    if (script_returned_at(camera->index, camera->opened_ns) > camera->settings_ns)
        settings_default(camera); /* it had lost its power */
    camera->settings.locked = 0;
    ledger_event(camera->index, "open", "");
    return GC_ERR_SUCCESS;
}

void camera_close(struct camera *camera) {
    if (!camera->handle || camera->closing) return;
    camera->closing = true;
    handle_drop(camera->handle);
    handle_drop(camera->port);
    sensor_stop(camera);
    stream_close(camera);
    event_unregister_all(camera->handle);
    event_unregister_all(camera->port);
    camera->handle = camera->port = NULL;
    camera->closing = false;
    script_release(camera->index);
    ledger_event(camera->index, "close", "");
    pthread_cond_broadcast(&camera->settled);
}

void camera_script_changed(struct camera *camera) {
    const int64_t now = now_ns();
    const bool removed = script_span_end(camera->index, REMOVE, now) != 0;
    const bool busy = script_span_end(camera->index, BUSY, now) != 0;
    if (removed != camera->seen_removed)
        ledger_event(camera->index, removed ? "unplug" : "replug", "");
    if (removed && !camera->seen_removed) event_abort(&camera->stream);
    if (busy != camera->seen_busy) ledger_event(camera->index, busy ? "busy" : "free", "");
    camera->seen_removed = removed;
    camera->seen_busy = busy;
    pthread_cond_broadcast(&camera->wake);
    event_signal(&camera->stream);
}

/* --- registers ------------------------------------------------------------------------------- */

size_t camera_payload(const struct camera *camera) {
    const struct settings *s = &camera->settings;
    return frame_bytes((struct geometry){s->width, s->height, s->format});
}

static bool read_integer(const struct camera *camera, uint64_t address, int64_t *value) {
    const struct settings *s = &camera->settings;
    switch (address) {
        case SENSOR_WIDTH: *value = camera->sensor_width; break;
        case SENSOR_HEIGHT: *value = camera->sensor_height; break;
        case WIDTH_MAX: *value = settings_width_max(camera); break;
        case HEIGHT_MAX: *value = settings_height_max(camera); break;
        case WIDTH: *value = s->width; break;
        case HEIGHT: *value = s->height; break;
        case OFFSET_X: *value = s->offset_x; break;
        case OFFSET_Y: *value = s->offset_y; break;
        case OFFSET_X_MAX: *value = settings_width_max(camera) - s->width; break;
        case OFFSET_Y_MAX: *value = settings_height_max(camera) - s->height; break;
        case PIXEL_FORMAT: *value = s->format; break;
        case PAYLOAD_SIZE: *value = (int64_t)camera_payload(camera); break;
        case BINNING_X: *value = s->binning_x; break;
        case BINNING_Y: *value = s->binning_y; break;
        case ACQUISITION_MODE: *value = s->mode; break;
        case FRAME_COUNT: *value = s->frame_count; break;
        case RATE_ENABLE: *value = s->rate_enable; break;
        case EXPOSURE_AUTO: *value = s->exposure_auto; break;
        case GAIN_AUTO: *value = s->gain_auto; break;
        case WHITE_AUTO: *value = s->white_auto; break;
        case TRIGGER_SELECTOR: *value = 0; break;
        case TRIGGER_MODE: *value = s->trigger_mode; break;
        case TRIGGER_SOURCE: *value = s->trigger_source; break;
        case PARAMS_LOCKED: *value = s->locked; break;
        case TIMESTAMP_VALUE: *value = camera->latched_ns; break;
        case THROUGHPUT: *value = s->throughput; break;
        case ACQUIRING: *value = camera->acquiring; break;
        default: return false;
    }
    return true;
}

static bool read_float(const struct camera *camera, uint64_t address, double *value) {
    const struct settings *s = &camera->settings;
    switch (address) {
        case RATE: *value = settings_rate(camera); break;
        case RATE_MIN: *value = rate_min_hz; break;
        case RATE_MAX: *value = settings_rate_max(camera); break;
        case EXPOSURE: *value = s->exposure_us; break;
        case GAIN: *value = s->gain_db; break;
        case TEMPERATURE_C: *value = script_temperature(camera->index, now_ns()); break;
        default: return false;
    }
    return true;
}

static const char *read_text(const struct camera *camera, uint64_t address) {
    const char *const texts[] = {"sealrec", camera->model, camera->setup->serial, "1.0.0",
                                 camera->setup->id, camera->user_id};
    const uint64_t index = (address - TEXTS) / TEXT;
    return address % TEXT || index >= sizeof texts / sizeof *texts ? NULL : texts[index];
}

GC_ERROR camera_read(struct camera *camera, uint64_t address, void *to, size_t *size) {
    int64_t integer;
    double real;
    char text[TEXT] = {0};
    const void *value = NULL;
    size_t bytes = 8;
    if (address >= TEXTS && address < TEXTS_END && read_text(camera, address)) {
        strcpy(text, read_text(camera, address));
        value = text;
        bytes = TEXT;
    } else if (address >= FLOATS && read_float(camera, address, &real)) {
        value = &real;
    } else if (read_integer(camera, address, &integer)) {
        value = &integer;
    }
    if (!value) return GC_ERR_INVALID_ADDRESS;
    if (*size < bytes) bytes = *size;
    memcpy(to, value, bytes);
    *size = bytes;
    return GC_ERR_SUCCESS;
}

/* The sizes a frame's memory was announced for; a camera refuses them while it streams. */
static bool is_locked(const struct camera *camera, uint64_t address) {
    const bool size = address == WIDTH || address == HEIGHT || address == PIXEL_FORMAT ||
                      address == BINNING_X || address == BINNING_Y;
    return size && (camera->settings.locked || camera->acquiring);
}

static bool set(int64_t *setting, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most) return false;
    *setting = value;
    return true;
}

static bool set_int(int *setting, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most) return false;
    *setting = (int)value;
    return true;
}

/* A new binning keeps the picture's share of the sensor. */
static bool set_binning(int *binning, int *size, int64_t value) {
    const int before = *binning;
    if (!set_int(binning, value, 1, 4)) return false;
    *size = *size * before / *binning;
    return true;
}

static bool set_format(struct settings *settings, int64_t value) {
    if (value < 0 || value > INT32_MAX || !bytes_per_pixel((enum pixel_format)value)) return false;
    settings->format = (enum pixel_format)value;
    return true;
}

static bool set_command(struct camera *camera, uint64_t address) {
    switch (address) {
        case ACQUISITION_START: sensor_start(camera); return true;
        case ACQUISITION_STOP: sensor_stop(camera); return true;
        case TRIGGER_SOFTWARE:
            camera->software_triggers +=
                camera->settings.trigger_mode && !camera->settings.trigger_source;
            pthread_cond_broadcast(&camera->wake);
            return true;
        case TIMESTAMP_LATCH:
            camera->latched_ns = script_camera_clock(camera->index, now_ns());
            return true;
        default: return false;
    }
}

static bool write_integer(struct camera *camera, uint64_t address, int64_t value) {
    struct settings *s = &camera->settings;
    switch (address) {
        case WIDTH: return set_int(&s->width, value, 128, settings_width_max(camera));
        case HEIGHT: return set_int(&s->height, value, 16, settings_height_max(camera));
        case OFFSET_X:
            return set_int(&s->offset_x, value, 0, settings_width_max(camera) - s->width);
        case OFFSET_Y:
            return set_int(&s->offset_y, value, 0, settings_height_max(camera) - s->height);
        case PIXEL_FORMAT: return set_format(s, value);
        case BINNING_X: return set_binning(&s->binning_x, &s->width, value);
        case BINNING_Y: return set_binning(&s->binning_y, &s->height, value);
        case ACQUISITION_MODE: return set(&s->mode, value, 0, 2);
        case FRAME_COUNT: return set(&s->frame_count, value, 1, 1 << 20);
        case RATE_ENABLE: return set(&s->rate_enable, value, 0, 1);
        /* Once: it measures, settles and is off again. */
        case EXPOSURE_AUTO: return set(&s->exposure_auto, value == 1 ? 0 : value, 0, 2);
        case GAIN_AUTO: return set(&s->gain_auto, value == 1 ? 0 : value, 0, 2);
        case WHITE_AUTO: return set(&s->white_auto, value == 1 ? 0 : value, 0, 2);
        case TRIGGER_SELECTOR: return value == 0;
        case TRIGGER_MODE: return set(&s->trigger_mode, value, 0, 1);
        case TRIGGER_SOURCE: return set(&s->trigger_source, value, 0, 1);
        case PARAMS_LOCKED: return set(&s->locked, value, 0, 1);
        case THROUGHPUT: return set(&s->throughput, value, 50000000, 450000000);
        default: return set_command(camera, address);
    }
}

static bool set_float(double *setting, double value, double least, double most) {
    if (!(value >= least && value <= most)) return false;
    *setting = value;
    return true;
}

static bool write_float(struct camera *camera, uint64_t address, double value) {
    struct settings *s = &camera->settings;
    switch (address) {
        case RATE:
            return s->rate_enable &&
                   set_float(&s->rate_hz, value, rate_min_hz, settings_rate_max(camera) * 1.000001);
        case EXPOSURE: return set_float(&s->exposure_us, value, 20, 10e6);
        case GAIN: return set_float(&s->gain_db, value, 0, 24);
        default: return false;
    }
}

static bool known(const struct camera *camera, uint64_t address) {
    int64_t integer;
    double real;
    return read_integer(camera, address, &integer) || read_float(camera, address, &real) ||
           (address >= ACQUISITION_START && address <= ACQUISITION_STOP && address % 8 == 0) ||
           address == TRIGGER_SOFTWARE || address == TIMESTAMP_LATCH;
}

GC_ERROR camera_write(struct camera *camera, uint64_t address, const void *from, size_t size) {
    if (address == USER_ID) {
        if (size > TEXT) return GC_ERR_INVALID_PARAMETER;
        memset(camera->user_id, 0, TEXT);
        memcpy(camera->user_id, from, size < TEXT ? size : TEXT - 1);
        return GC_ERR_SUCCESS;
    }
    if (!known(camera, address)) return GC_ERR_INVALID_ADDRESS;
    if (size != 8) return GC_ERR_INVALID_PARAMETER;
    if (is_locked(camera, address)) return GC_ERR_ACCESS_DENIED;
    int64_t integer;
    double real;
    memcpy(&integer, from, sizeof integer);
    memcpy(&real, from, sizeof real);
    const bool taken = address >= FLOATS ? write_float(camera, address, real)
                                         : write_integer(camera, address, integer);
    if (!taken) return GC_ERR_INVALID_VALUE;
    settings_fit(camera);
    return GC_ERR_SUCCESS;
}
