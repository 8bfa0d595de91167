/* The exported GenTL functions of the library, its one system and its one interface; those of the
 * cameras are in producer_device.c, events and registers in producer_port.c.
 *
 * No function trusts a handle or a pointer it can check. README.md says what the producer is for. */
#include "api.h"
#include "event.h"

#include <stdio.h>
#include <string.h>

#define INTERFACE_ID "SimulatedUSB"

bool api_initialised;
void *api_system, *api_interface;

static uint32_t listed; /* bit per camera: how the device list looked at its last update */
static bool ever_listed;

static _Thread_local GC_ERROR last_error;

GC_ERROR api_note(GC_ERROR error) {
    if (error) last_error = error;
    return error;
}

/* --- library --------------------------------------------------------------------------------- */

static void script_changed(void) {
    if (!api_initialised) return;
    for (int i = 0; i < script_cameras(); i++) camera_script_changed(&cameras[i]);
}

static void finish_cameras(void) {
    for (int i = 0; i < script_cameras(); i++) camera_finish(i);
    event_unregister_all(NULL);
    handle_drop_all();
    api_system = api_interface = NULL;
}

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER; /* Init and Close, one at a time */

static GC_ERROR init_library(void) {
    static bool once;
    if (!once) event_init();
    once = true;
    if (api_initialised) return GC_ERR_RESOURCE_IN_USE;
    ledger_open();
    if (!script_open(script_changed)) {
        ledger_close();
        return GC_ERR_IO;
    }
    pthread_mutex_lock(&sim_lock);
    bool started = true;
    for (int i = 0; i < script_cameras(); i++) started = camera_start(i) && started;
    api_initialised = started;
    ever_listed = false;
    if (!started) finish_cameras();
    pthread_mutex_unlock(&sim_lock);
    if (started) return GC_ERR_SUCCESS;
    script_close();
    ledger_close();
    return GC_ERR_RESOURCE_EXHAUSTED;
}

GC_API GCInitLib(void) {
    pthread_mutex_lock(&life_lock);
    const GC_ERROR error = init_library();
    pthread_mutex_unlock(&life_lock);
    return api_note(error);
}

GC_API GCCloseLib(void) {
    pthread_mutex_lock(&life_lock);
    pthread_mutex_lock(&sim_lock);
    const bool was = api_initialised;
    api_initialised = false;
    if (was) finish_cameras();
    pthread_mutex_unlock(&sim_lock);
    if (was) {
        script_close();
        ledger_close();
    }
    pthread_mutex_unlock(&life_lock);
    return api_note(was ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED);
}

GC_API GCGetLastError(GC_ERROR *code, char *text, size_t *size) {
    if (!code || !size) return GC_ERR_INVALID_PARAMETER;
    char message[48];
    snprintf(message, sizeof message, "simulated camera: GenTL error %d", (int)last_error);
    *code = last_error;
    return info_text(message, NULL, text, size);
}

static GC_ERROR system_info(TL_INFO_CMD command, INFO_DATATYPE *type, void *to, size_t *size) {
    switch (command) {
        case TL_INFO_ID: return info_text("sealrec.sim", type, to, size);
        case TL_INFO_VENDOR: return info_text(script_vendor(), type, to, size);
        case TL_INFO_MODEL: return info_text("Simulated cameras", type, to, size);
        case TL_INFO_VERSION: return info_text("1.0.0", type, to, size);
        case TL_INFO_TLTYPE: return info_text("U3V", type, to, size);
        case TL_INFO_NAME:
        case TL_INFO_PATHNAME: return info_text("sealrec_sim.cti", type, to, size);
        case TL_INFO_DISPLAYNAME: return info_text("Simulated cameras", type, to, size);
        case TL_INFO_CHAR_ENCODING: return info_i32(0, type, to, size);
        case TL_INFO_GENTL_VER_MAJOR: return info_u32(1, type, to, size);
        case TL_INFO_GENTL_VER_MINOR: return info_u32(5, type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

GC_API GCGetInfo(TL_INFO_CMD command, INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    result = system_info(command, type, to, size);
    END;
}

/* --- system ---------------------------------------------------------------------------------- */

GC_API TLOpen(TL_HANDLE *out) {
    BEGIN;
    NEED(out, GC_ERR_INVALID_PARAMETER);
    NEED(!api_system, GC_ERR_RESOURCE_IN_USE);
    *out = api_system = handle_new(SYSTEM, &api_system);
    END;
}

static void close_interface(void) {
    for (int i = 0; i < script_cameras(); i++) camera_close(&cameras[i]);
    event_unregister_all(api_interface);
    handle_drop(api_interface);
    api_interface = NULL;
}

GC_API TLClose(TL_HANDLE tl) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    handle_drop(tl);
    if (api_interface) close_interface();
    event_unregister_all(tl);
    api_system = NULL;
    END;
}

GC_API TLGetInfo(TL_HANDLE tl, TL_INFO_CMD command, INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    result = system_info(command, type, to, size);
    END;
}

GC_API TLUpdateInterfaceList(TL_HANDLE tl, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    if (changed) *changed = false;
    END;
}

GC_API TLGetNumInterfaces(TL_HANDLE tl, uint32_t *count) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    NEED(count, GC_ERR_INVALID_PARAMETER);
    *count = 1;
    END;
}

GC_API TLGetInterfaceID(TL_HANDLE tl, uint32_t index, char *id, size_t *size) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    NEED(index == 0, GC_ERR_INVALID_INDEX);
    result = info_text(INTERFACE_ID, NULL, id, size);
    END;
}

static GC_ERROR interface_info(INTERFACE_INFO_CMD command, INFO_DATATYPE *type, void *to,
                               size_t *size) {
    switch (command) {
        case INTERFACE_INFO_ID: return info_text(INTERFACE_ID, type, to, size);
        case INTERFACE_INFO_DISPLAYNAME: return info_text("Simulated USB", type, to, size);
        case INTERFACE_INFO_TLTYPE: return info_text("U3V", type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

GC_API TLGetInterfaceInfo(TL_HANDLE tl, const char *id, INTERFACE_INFO_CMD command,
                          INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    NEED(id && !strcmp(id, INTERFACE_ID), GC_ERR_INVALID_ID);
    result = interface_info(command, type, to, size);
    END;
}

GC_API TLOpenInterface(TL_HANDLE tl, const char *id, IF_HANDLE *out) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    NEED(id && !strcmp(id, INTERFACE_ID), GC_ERR_INVALID_ID);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    NEED(!api_interface, GC_ERR_RESOURCE_IN_USE);
    *out = api_interface = handle_new(INTERFACE, &api_interface);
    END;
}

/* --- interface ------------------------------------------------------------------------------- */

GC_API IFClose(IF_HANDLE interface) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    close_interface();
    END;
}

GC_API IFGetInfo(IF_HANDLE interface, INTERFACE_INFO_CMD command, INFO_DATATYPE *type, void *to,
                 size_t *size) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    result = interface_info(command, type, to, size);
    END;
}

GC_API IFGetParentTL(IF_HANDLE interface, TL_HANDLE *out) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    *out = api_system;
    END;
}

GC_API IFUpdateDeviceList(IF_HANDLE interface, bool8_t *changed, uint64_t timeout_ms) {
    (void)timeout_ms;
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    uint32_t present = 0;
    for (int i = 0; i < script_cameras(); i++)
        present |= (uint32_t)camera_present(&cameras[i]) << i;
    if (changed) *changed = !ever_listed || present != listed;
    listed = present;
    ever_listed = true;
    END;
}

GC_API IFGetNumDevices(IF_HANDLE interface, uint32_t *count) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    NEED(count, GC_ERR_INVALID_PARAMETER);
    *count = 0;
    for (int i = 0; i < script_cameras(); i++) *count += listed >> i & 1;
    END;
}

GC_API IFGetDeviceID(IF_HANDLE interface, uint32_t index, char *id, size_t *size) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    int camera = 0;
    while (camera < script_cameras() && !(listed >> camera & 1 && index-- == 0)) camera++;
    NEED(camera < script_cameras(), GC_ERR_INVALID_INDEX);
    result = info_text(script_camera(camera)->id, NULL, id, size);
    END;
}

static struct camera *camera_of_id(const char *id) {
    for (int i = 0; id && i < script_cameras(); i++)
        if (!strcmp(id, script_camera(i)->id)) return &cameras[i];
    return NULL;
}

GC_API IFGetDeviceInfo(IF_HANDLE interface, const char *id, DEVICE_INFO_CMD command,
                       INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    const struct camera *camera = camera_of_id(id);
    NEED(camera, GC_ERR_INVALID_ID);
    result = api_device_info(camera, command, type, to, size);
    END;
}

GC_API IFOpenDevice(IF_HANDLE interface, const char *id, DEVICE_ACCESS_FLAGS access,
                    DEV_HANDLE *out) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    struct camera *camera = camera_of_id(id);
    NEED(camera, GC_ERR_INVALID_ID);
    NEED(out && access >= DEVICE_ACCESS_READONLY && access <= DEVICE_ACCESS_EXCLUSIVE,
         GC_ERR_INVALID_PARAMETER);
    result = camera_open(camera);
    if (!result) *out = camera->handle;
    END;
}
