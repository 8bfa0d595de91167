/* The command language of SEALREC_SIM_SCRIPT (README.md): who the cameras are and which faults they
 * have. A fault is either a span of host time, the same for every process that reads the file, or
 * an act on one frame, done once; the line of a done act is turned into a comment.
 *
 * All functions need sim_lock, except script_open and script_close. */
#ifndef SEALREC_SCRIPT_H
#define SEALREC_SCRIPT_H

#include "sim.h"

struct camera_setup {
    char id[TEXT];
    char serial[TEXT];
    char model[TEXT]; /* "158c" or "230c" */
    int64_t first_id;
    double drift_ppm;
    int64_t power_on_ns;
};

enum verb {
    /* done to one frame */
    SKIP,
    INCOMPLETE,
    IDS,
    TRIGGER,
    /* true for a span of time, or from a moment on */
    STALL,
    HOLD,
    REMOVE,
    BUSY,
    HANG,
    CLOCK,
    TEMPERATURE,
    END,
    NO_VERB
};

struct fault {
    enum verb verb;
    enum verb target; /* of END */
    int camera;
    bool done;
    int64_t at_ns;    /* -1: not bound to a time */
    int64_t frame;    /* -1: not bound to a frame */
    int64_t after_ns; /* -1: not counted from now */
    int64_t for_ns;   /* NEVER: until an END */
    int64_t count;
    double value; /* next=, filled=, celsius=, ns= */
    int64_t offset; /* of the line in the file */
};

/* Read the script. changed is called, locked, whenever a span begins or ends or a line is added. */
bool script_open(void (*changed)(void));
void script_close(void);

int script_cameras(void);
const struct camera_setup *script_camera(int camera);
const char *script_vendor(void);

/* End of the latest span of verb that covers t_ns, or 0. */
int64_t script_span_end(int camera, enum verb verb, int64_t t_ns);
/* Start of the latest removal at or before t_ns, and its end, or 0. */
int64_t script_removed_at(int camera, int64_t t_ns);
int64_t script_returned_at(int camera, int64_t t_ns);
/* Camera clock at host time t_ns: the time since power-on, replug or restart, with drift. */
int64_t script_camera_clock(int camera, int64_t t_ns);
double script_temperature(int camera, int64_t t_ns);

/* The next fault that waits for this frame of an acquiring camera, or NULL; script_fire makes it
 * done, or for a span binds it to exposure_ns or now. */
struct fault *script_due(int camera, int64_t frame_id, int64_t exposure_ns);
void script_fire(struct fault *fault, int64_t exposure_ns);
/* As script_due for TRIGGER, which needs no frame. */
struct fault *script_trigger(int camera);

/* Exclusive use across processes; released by the system when the process dies. */
bool script_claim(int camera);
void script_release(int camera);
bool script_claimed_elsewhere(int camera);

#endif
