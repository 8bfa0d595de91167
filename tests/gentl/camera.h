/* The simulated camera: its registers (camera.xml says which feature each is), its data stream and
 * the thread that exposes frames. One struct is the device, its stream and its sensor, because a
 * camera here is opened by one user at a time. All functions need sim_lock. */
#ifndef SEALREC_CAMERA_H
#define SEALREC_CAMERA_H

#include "gentl.h"
#include "picture.h"
#include "script.h"

enum buffer_state { IDLE, QUEUED, FILLING, FILLED };

struct buffer {
    void *handle;
    uint8_t *memory;
    size_t size;
    void *user;
    bool owned; /* allocated here */
    bool fresh; /* holds a frame its owner has taken and not yet queued again */
    enum buffer_state state;
    uint64_t order; /* grows with every move between states: the queues are first in, first out */
    struct geometry geometry;
    int offset_x, offset_y;
    int64_t acquisition, frame_id, timestamp_ns;
    size_t filled;
    bool incomplete;
};

struct stream {
    void *handle; /* NULL: closed */
    bool closing;
    bool grabbing;
    uint64_t left; /* frames until grabbing ends, GENTL_INFINITE for ever */
    struct buffer *buffer[MAX_BUFFERS];
    int buffers;
    uint64_t order;
    int64_t delivered, incomplete, underrun, started;
};

struct settings {
    int width, height, offset_x, offset_y, binning_x, binning_y;
    enum pixel_format format;
    int64_t mode, frame_count, trigger_mode, trigger_source, locked, throughput;
    int64_t rate_enable, exposure_auto, gain_auto, white_auto;
    double rate_hz, exposure_us, gain_db;
};

struct camera {
    int index;
    const struct camera_setup *setup;
    int sensor_width, sensor_height;
    char model[TEXT], user_id[TEXT];
    struct settings settings;
    int64_t settings_ns; /* when they were the defaults: a replug resets them */
    int64_t latched_ns;

    void *handle; /* local device; NULL: closed */
    bool closing;
    void *port; /* remote device */
    int64_t opened_ns;
    struct stream stream;

    pthread_cond_t wake;    /* for the sensor thread */
    pthread_cond_t settled; /* from it: a frame was filled, or the acquisition ended */
    pthread_t thread;
    bool thread_runs, quit;
    bool acquiring, stop;
    struct picture picture;
    int64_t acquisition, next_id, skip_left, skip_until_ns, incomplete_left;
    double incomplete_filled;
    int64_t software_triggers;
    bool seen_removed, seen_busy; /* what the ledger was last told */
};

extern struct camera cameras[MAX_CAMERAS];

bool camera_start(int index); /* power on: starts the thread */
void camera_finish(int index);

bool camera_present(const struct camera *camera);
int32_t camera_access_status(const struct camera *camera);
GC_ERROR camera_open(struct camera *camera);
void camera_close(struct camera *camera);
/* An open camera that was removed stays lost to whoever had it open, also after its return. */
bool camera_lost(const struct camera *camera);
/* A span of the script began or ended: tell the ledger and whoever waits. */
void camera_script_changed(struct camera *camera);

GC_ERROR camera_read(struct camera *camera, uint64_t address, void *to, size_t *size);
GC_ERROR camera_write(struct camera *camera, uint64_t address, const void *from, size_t size);
size_t camera_payload(const struct camera *camera);

/* settings.c: the rules between the settings. */
void settings_default(struct camera *camera);
double settings_rate_max(const struct camera *camera);
double settings_rate(const struct camera *camera);
int64_t settings_readout_ns(const struct camera *camera);
int settings_width_max(const struct camera *camera);
int settings_height_max(const struct camera *camera);
void settings_fit(struct camera *camera); /* after a change: clamp what depends on it */

void sensor_start(struct camera *camera);
void sensor_stop(struct camera *camera); /* returns once no frame is on its way */
void *sensor_main(void *camera);

#endif
