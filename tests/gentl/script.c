/* The command language and the thread that follows its file: see script.h and README.md. */
#include "script.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { MAX_FAULTS = 4096, MAX_LINE = 512 };

static const char *const verb_names[NO_VERB] = {
    "skip", "incomplete", "ids", "trigger", "stall", "hold", "remove", "busy", "hang", "clock",
    "temperature", "end"};

static struct {
    int fd;        /* reading, marking and locks */
    int append_fd; /* pwrite on an O_APPEND descriptor would append */
    int watch_fd;
    int wake_fd;
    bool loading;
    bool running;
    bool quit;
    pthread_t thread;
    void (*changed)(void);
    off_t read_bytes;
    int cameras;
    struct camera_setup camera[MAX_CAMERAS];
    char vendor[TEXT];
    int faults;
    struct fault fault[MAX_FAULTS];
} script = {.fd = -1, .append_fd = -1, .watch_fd = -1, .wake_fd = -1};

/* --- lines ----------------------------------------------------------------------------------- */

static enum verb verb_of(const char *word) {
    int verb = 0;
    while (verb < NO_VERB && strcmp(word, verb_names[verb])) verb++;
    return (enum verb)verb;
}

static bool copy_text(char *to, const char *from) {
    if (strlen(from) >= TEXT) return false;
    strcpy(to, from);
    return true;
}

static bool whole_number(const char *text, int64_t *value) {
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && !*end && !errno;
}

static bool real_number(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end != text && !*end;
}

static bool seconds(const char *text, int64_t *ns) {
    double value;
    if (!real_number(text, &value) || !(value >= 0 && value < 1e9)) return false;
    *ns = (int64_t)(value * 1e9);
    return true;
}

static bool setup_option(struct camera_setup *camera, const char *key, const char *value) {
    if (!strcmp(key, "id")) return copy_text(camera->id, value);
    if (!strcmp(key, "serial")) return copy_text(camera->serial, value);
    if (!strcmp(key, "model"))
        return (!strcmp(value, "158c") || !strcmp(value, "230c")) &&
               copy_text(camera->model, value);
    if (!strcmp(key, "first_id")) return whole_number(value, &camera->first_id);
    if (!strcmp(key, "drift_ppm")) return real_number(value, &camera->drift_ppm);
    if (!strcmp(key, "power_on")) return whole_number(value, &camera->power_on_ns);
    return false;
}

static bool fault_option(struct fault *fault, const char *key, const char *value) {
    if (!strcmp(key, "at")) return whole_number(value, &fault->at_ns);
    if (!strcmp(key, "frame")) return whole_number(value, &fault->frame);
    if (!strcmp(key, "after")) return seconds(value, &fault->after_ns);
    if (!strcmp(key, "for")) return seconds(value, &fault->for_ns);
    if (!strcmp(key, "count")) return whole_number(value, &fault->count) && fault->count > 0;
    if (fault->verb == END && !strcmp(key, "what"))
        return (fault->target = verb_of(value)) < END;
    const bool named = (fault->verb == IDS && !strcmp(key, "next")) ||
                       (fault->verb == INCOMPLETE && !strcmp(key, "filled")) ||
                       (fault->verb == TEMPERATURE && !strcmp(key, "celsius")) ||
                       (fault->verb == CLOCK && !strcmp(key, "ns"));
    return named && real_number(value, &fault->value);
}

/* Split "key=value" in place; the value is empty where there is no '='. */
static const char *split(char *word) {
    char *equals = strchr(word, '=');
    if (!equals) return "";
    *equals = 0;
    return equals + 1;
}

static void setup_defaults(int camera) {
    struct camera_setup *setup = &script.camera[camera];
    *setup = (struct camera_setup){.power_on_ns = now_ns() - (1000 + 777 * camera) * NS_PER_S};
    snprintf(setup->id, TEXT, "DEV_SIM%03d", camera);
    snprintf(setup->serial, TEXT, "SIM%06d", 158000 + camera);
    strcpy(setup->model, camera % 2 ? "230c" : "158c");
}

static bool setup_line(int camera, char **rest) {
    if (!script.loading) return false; /* a camera cannot change its name while plugged in */
    while (script.cameras <= camera) setup_defaults(script.cameras++);
    for (char *word = strtok_r(NULL, " \t\r", rest); word; word = strtok_r(NULL, " \t\r", rest)) {
        const char *value = split(word);
        if (!setup_option(&script.camera[camera], word, value)) return false;
    }
    return true;
}

static bool fault_line(enum verb verb, int camera, char **rest, int64_t offset) {
    if (script.faults == MAX_FAULTS) return false;
    struct fault fault = {.verb = verb, .camera = camera, .at_ns = -1, .frame = -1, .count = 1,
                          .after_ns = -1, .for_ns = NEVER, .offset = offset, .target = NO_VERB};
    if (verb == INCOMPLETE) fault.value = 0.5;
    for (char *word = strtok_r(NULL, " \t\r", rest); word; word = strtok_r(NULL, " \t\r", rest)) {
        const char *value = split(word);
        if (!fault_option(&fault, word, value)) return false;
    }
    if (verb == END && fault.target >= END) return false;
    script.fault[script.faults++] = fault;
    struct fault *kept = &script.fault[script.faults - 1];
    if (kept->at_ns >= 0 || kept->frame >= 0) return true;
    /* A span that names no moment begins when it is read; an act waits for the next frame. */
    if (verb >= STALL)
        script_fire(kept, -1);
    else if (kept->after_ns >= 0)
        kept->at_ns = now_ns() + kept->after_ns;
    return true;
}

static bool take_line(char *line, int64_t offset) {
    char *rest = NULL;
    char *word = strtok_r(line, " \t\r", &rest);
    if (!word || *word == '#') return true;
    if (!strcmp(word, "vendor")) {
        while (isspace((unsigned char)*rest)) rest++;
        return script.loading && copy_text(script.vendor, rest);
    }
    char *number = strtok_r(NULL, " \t\r", &rest);
    int64_t camera;
    if (!number || !whole_number(number, &camera) || camera < 0 || camera >= MAX_CAMERAS)
        return false;
    if (!strcmp(word, "camera")) return setup_line((int)camera, &rest);
    const enum verb verb = verb_of(word);
    return verb != NO_VERB && fault_line(verb, (int)camera, &rest, offset);
}

/* Read the lines added since the last call; one that is not understood goes to the ledger. */
static void read_lines(void) {
    char line[MAX_LINE];
    for (;;) {
        const ssize_t got = pread(script.fd, line, sizeof line - 1, script.read_bytes);
        if (got <= 0) return;
        line[got] = 0;
        char *end = memchr(line, '\n', (size_t)got);
        if (!end) return; /* a line still being written */
        *end = 0;
        const off_t offset = script.read_bytes;
        script.read_bytes += end - line + 1;
        char quoted[MAX_LINE];
        strcpy(quoted, line);
        for (char *c = quoted; *c; c++)
            if (*c == ',') *c = ';';
        if (!take_line(line, offset)) ledger_event(-1, "bad_command", quoted);
    }
}

/* --- faults ---------------------------------------------------------------------------------- */

static void append_span(const struct fault *fault, int64_t at_ns) {
    char line[MAX_LINE];
    int used = snprintf(line, sizeof line, "%s %d at=%" PRId64, verb_names[fault->verb],
                        fault->camera, at_ns);
    const size_t room = sizeof line - (size_t)used;
    char *rest = line + used;
    if (fault->verb == CLOCK)
        used += snprintf(rest, room, " ns=%.0f", fault->value);
    else if (fault->verb == TEMPERATURE)
        used += snprintf(rest, room, " celsius=%g", fault->value);
    else if (fault->verb == END)
        used += snprintf(rest, room, " what=%s", verb_names[fault->target]);
    else if (fault->for_ns != NEVER)
        used += snprintf(rest, room, " for=%.9f", (double)fault->for_ns / 1e9);
    line[used++] = '\n';
    if (write(script.append_fd, line, (size_t)used) != used) perror("SEALREC_SIM_SCRIPT");
}

void script_fire(struct fault *fault, int64_t exposure_ns) {
    fault->done = true;
    if (pwrite(script.fd, "#", 1, fault->offset) != 1) perror("SEALREC_SIM_SCRIPT");
    if (fault->verb < STALL) return;
    /* With the frame's exposure, so that the frame named is the first one concerned. */
    int64_t at_ns = exposure_ns >= 0 ? exposure_ns : now_ns();
    if (fault->after_ns > 0) at_ns += fault->after_ns;
    append_span(fault, at_ns);
    read_lines();
}

struct fault *script_due(int camera, int64_t frame_id, int64_t exposure_ns) {
    for (int i = 0; i < script.faults; i++) {
        struct fault *fault = &script.fault[i];
        if (fault->done || fault->camera != camera || fault->verb == TRIGGER) continue;
        if (fault->frame >= 0 && frame_id < fault->frame) continue;
        if (fault->at_ns >= 0 && (fault->verb >= STALL || exposure_ns < fault->at_ns)) continue;
        return fault;
    }
    return NULL;
}

struct fault *script_trigger(int camera) {
    for (int i = 0; i < script.faults; i++) {
        struct fault *fault = &script.fault[i];
        if (fault->verb == TRIGGER && fault->camera == camera && !fault->done &&
            fault->at_ns <= now_ns())
            return fault;
    }
    return NULL;
}

static bool is_span(const struct fault *fault, int camera, enum verb verb) {
    return fault->verb == verb && fault->camera == camera && fault->at_ns >= 0 && !fault->done;
}

static int64_t end_of(const struct fault *span) {
    int64_t end = span->for_ns == NEVER ? NEVER : span->at_ns + span->for_ns;
    for (int i = 0; i < script.faults; i++) {
        const struct fault *fault = &script.fault[i];
        if (is_span(fault, span->camera, END) && fault->target == span->verb &&
            fault->at_ns > span->at_ns && fault->at_ns < end)
            end = fault->at_ns;
    }
    return end;
}

int64_t script_span_end(int camera, enum verb verb, int64_t t_ns) {
    int64_t latest = 0;
    for (int i = 0; i < script.faults; i++) {
        const struct fault *fault = &script.fault[i];
        if (!is_span(fault, camera, verb) || t_ns < fault->at_ns) continue;
        const int64_t end = end_of(fault);
        if (t_ns < end && end > latest) latest = end;
    }
    return latest;
}

static const struct fault *latest_before(int camera, enum verb verb, int64_t t_ns) {
    const struct fault *latest = NULL;
    for (int i = 0; i < script.faults; i++) {
        const struct fault *fault = &script.fault[i];
        if (is_span(fault, camera, verb) && fault->at_ns <= t_ns &&
            (!latest || fault->at_ns >= latest->at_ns))
            latest = fault;
    }
    return latest;
}

int64_t script_removed_at(int camera, int64_t t_ns) {
    const struct fault *removal = latest_before(camera, REMOVE, t_ns);
    return removal ? removal->at_ns : 0;
}

int64_t script_returned_at(int camera, int64_t t_ns) {
    const struct fault *removal = latest_before(camera, REMOVE, t_ns);
    const int64_t end = removal ? end_of(removal) : 0;
    return end <= t_ns ? end : 0;
}

int64_t script_camera_clock(int camera, int64_t t_ns) {
    const struct camera_setup *setup = &script.camera[camera];
    int64_t origin = setup->power_on_ns;
    double first = 0;
    const int64_t returned = script_returned_at(camera, t_ns);
    if (returned > origin) origin = returned; /* a replugged camera lost its power */
    const struct fault *restart = latest_before(camera, CLOCK, t_ns);
    if (restart && restart->at_ns >= origin) {
        origin = restart->at_ns;
        first = restart->value;
    }
    const int64_t passed = t_ns - origin;
    return (int64_t)first + passed + (int64_t)((double)passed * setup->drift_ppm * 1e-6);
}

double script_temperature(int camera, int64_t t_ns) {
    const struct fault *set = latest_before(camera, TEMPERATURE, t_ns);
    return set ? set->value : 41.5;
}

/* --- the file -------------------------------------------------------------------------------- */

static int64_t next_change(int64_t after_ns) {
    int64_t next = NEVER;
    for (int i = 0; i < script.faults; i++) {
        const struct fault *fault = &script.fault[i];
        if (fault->done || fault->at_ns < 0) continue;
        if (fault->at_ns > after_ns && fault->at_ns < next) next = fault->at_ns;
        if (fault->verb < STALL || fault->verb > HANG) continue;
        const int64_t end = end_of(fault);
        if (end > after_ns && end < next) next = end;
    }
    return next;
}

static void *follow(void *unused) {
    (void)unused;
    struct pollfd files[] = {{.fd = script.watch_fd, .events = POLLIN},
                             {.fd = script.wake_fd, .events = POLLIN}};
    pthread_mutex_lock(&sim_lock);
    while (!script.quit) {
        const int64_t now = now_ns();
        read_lines();
        script.changed();
        const int64_t next = next_change(now);
        const int64_t left_ms = next == NEVER ? 1000 : (next - now_ns()) / 1000000 + 1;
        pthread_mutex_unlock(&sim_lock);
        poll(files, 2, left_ms < 0 ? 0 : left_ms > 1000 ? 1000 : (int)left_ms);
        char events[4096];
        if (files[0].revents && read(script.watch_fd, events, sizeof events) < 0) files[0].fd = -1;
        pthread_mutex_lock(&sim_lock);
    }
    pthread_mutex_unlock(&sim_lock);
    return NULL;
}

static bool open_files(const char *path) {
    script.fd = open(path, O_RDWR | O_CLOEXEC);
    script.append_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    script.watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    script.wake_fd = eventfd(0, EFD_CLOEXEC);
    return script.fd >= 0 && script.append_fd >= 0 && script.wake_fd >= 0 &&
           script.watch_fd >= 0 && inotify_add_watch(script.watch_fd, path, IN_MODIFY) >= 0;
}

bool script_open(void (*changed)(void)) {
    const char *path = getenv("SEALREC_SIM_SCRIPT");
    pthread_mutex_lock(&sim_lock);
    script.changed = changed;
    script.cameras = script.faults = 0;
    script.read_bytes = 0;
    script.loading = true;
    script.quit = false;
    strcpy(script.vendor, "sealrec simulation");
    bool good = true;
    if (path && *path) {
        good = open_files(path);
        if (good) read_lines();
        good = good && (script.running = thread_start(&script.thread, follow, NULL));
    }
    if (!script.cameras)
        while (script.cameras < 2) setup_defaults(script.cameras++);
    script.loading = false;
    pthread_mutex_unlock(&sim_lock);
    if (!good) script_close();
    return good;
}

static void close_file(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void script_close(void) {
    const uint64_t one = 1;
    if (script.running) {
        pthread_mutex_lock(&sim_lock);
        script.quit = true;
        pthread_mutex_unlock(&sim_lock);
        if (write(script.wake_fd, &one, sizeof one) < 0) perror("eventfd");
        pthread_join(script.thread, NULL);
        script.running = false;
    }
    close_file(&script.fd);
    close_file(&script.append_fd);
    close_file(&script.watch_fd);
    close_file(&script.wake_fd);
}

int script_cameras(void) { return script.cameras; }
const struct camera_setup *script_camera(int camera) { return &script.camera[camera]; }
const char *script_vendor(void) { return script.vendor; }

/* --- exclusive use --------------------------------------------------------------------------- */

/* One byte of the script file per camera, far behind its text. Locks of open file descriptions,
 * because a process's own locks would vanish with any other descriptor of the file it closes. */
static struct flock lock_of(int camera, short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET,
                          .l_start = ((off_t)1 << 40) + camera, .l_len = 1};
}

bool script_claim(int camera) {
    struct flock lock = lock_of(camera, F_WRLCK);
    return script.fd < 0 || !fcntl(script.fd, F_OFD_SETLK, &lock);
}

void script_release(int camera) {
    struct flock lock = lock_of(camera, F_UNLCK);
    if (script.fd >= 0) fcntl(script.fd, F_OFD_SETLK, &lock);
}

bool script_claimed_elsewhere(int camera) {
    struct flock lock = lock_of(camera, F_WRLCK);
    return script.fd >= 0 && !fcntl(script.fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
}
