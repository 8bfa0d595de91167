/* The rules between a camera's settings: what binning does to the size, exposure to the rate. */
#include "camera.h"

enum {
    WIDTH_STEP = 4,
    HEIGHT_STEP = 2,
    ROW_NS = 4500,      /* one row's readout */
    EXTRA_ROWS = 30,    /* blanking */
    EXPOSURE_GAP_NS = 50000
};

void settings_default(struct camera *camera) {
    camera->settings = (struct settings){
        .width = camera->sensor_width, .height = camera->sensor_height, .binning_x = 1,
        .binning_y = 1, .format = MONO8, .frame_count = 1, .throughput = 450000000,
        .rate_hz = 30, .exposure_us = 5000};
    camera->settings_ns = now_ns();
}

static int fit(int value, int least, int most, int step) {
    value = value > most ? most : value < least ? least : value;
    return value - value % step;
}

int settings_width_max(const struct camera *camera) {
    const int binned = camera->sensor_width / camera->settings.binning_x;
    return binned - binned % WIDTH_STEP;
}

int settings_height_max(const struct camera *camera) {
    const int binned = camera->sensor_height / camera->settings.binning_y;
    return binned - binned % HEIGHT_STEP;
}

int64_t settings_readout_ns(const struct camera *camera) {
    return (int64_t)(camera->settings.height + EXTRA_ROWS) * ROW_NS;
}

/* The slowest of exposure, readout and link decides. */
double settings_rate_max(const struct camera *camera) {
    const struct settings *s = &camera->settings;
    const double exposure_ns = s->exposure_us * 1e3 + EXPOSURE_GAP_NS;
    const double readout_ns = (double)settings_readout_ns(camera);
    const double link_ns = (double)camera_payload(camera) * 1e9 / (double)s->throughput;
    double frame_ns = exposure_ns > readout_ns ? exposure_ns : readout_ns;
    if (link_ns > frame_ns) frame_ns = link_ns;
    return 1e9 / frame_ns;
}

double settings_rate(const struct camera *camera) {
    const double most = settings_rate_max(camera);
    const struct settings *s = &camera->settings;
    return s->rate_enable && s->rate_hz < most ? s->rate_hz : most;
}

void settings_fit(struct camera *camera) {
    struct settings *s = &camera->settings;
    s->width = fit(s->width, 128, settings_width_max(camera), WIDTH_STEP);
    s->height = fit(s->height, 16, settings_height_max(camera), HEIGHT_STEP);
    s->offset_x = fit(s->offset_x, 0, settings_width_max(camera) - s->width, WIDTH_STEP);
    s->offset_y = fit(s->offset_y, 0, settings_height_max(camera) - s->height, HEIGHT_STEP);
    const double most = settings_rate_max(camera);
    if (s->rate_hz > most) s->rate_hz = most;
}
