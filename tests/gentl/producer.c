/* The exported GenTL functions: one system, one interface, the cameras of the script.
 *
 * Each function takes the lock, finds what its handle stands for, hands the work to the module that
 * knows and notes the error for GCGetLastError. No function trusts a handle or a pointer it can
 * check; see README.md for what the producer is for. */
#include "camera.h"
#include "event.h"
#include "handles.h"
#include "info.h"
#include "port.h"
#include "stream.h"

#include <stdio.h>
#include <string.h>

#define INTERFACE_ID "SimulatedUSB"

static bool initialised;
static void *system_handle, *interface_handle;
static uint32_t listed; /* bit per camera: how the device list looked at its last update */
static bool ever_listed;

static _Thread_local GC_ERROR last_error;

static GC_ERROR note(GC_ERROR error) {
    if (error) last_error = error;
    return error;
}

/* Body of every function: BEGIN(condition on the handle) ... END(value). */
#define BEGIN                                                     \
    pthread_mutex_lock(&sim_lock);                                \
    GC_ERROR result = initialised ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED; \
    do {                                                          \
        if (result) break
#define NEED(condition, error)  \
    if (!(condition)) {         \
        result = (error);       \
        break;                  \
    }
#define END                           \
    }                                 \
    while (0);                        \
    pthread_mutex_unlock(&sim_lock);  \
    return note(result)

/* --- library --------------------------------------------------------------------------------- */

static void script_changed(void) {
    if (!initialised) return;
    for (int i = 0; i < script_cameras(); i++) camera_script_changed(&cameras[i]);
}

static void finish_cameras(void) {
    for (int i = 0; i < script_cameras(); i++) camera_finish(i);
    event_unregister_all(NULL);
    handle_drop_all();
    system_handle = interface_handle = NULL;
}

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER; /* Init and Close, one at a time */

static GC_ERROR init_library(void) {
    static bool once;
    if (!once) event_init();
    once = true;
    if (initialised) return GC_ERR_RESOURCE_IN_USE;
    ledger_open();
    if (!script_open(script_changed)) {
        ledger_close();
        return GC_ERR_IO;
    }
    pthread_mutex_lock(&sim_lock);
    bool started = true;
    for (int i = 0; i < script_cameras(); i++) started = camera_start(i) && started;
    initialised = started;
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
    return note(error);
}

GC_API GCCloseLib(void) {
    pthread_mutex_lock(&life_lock);
    pthread_mutex_lock(&sim_lock);
    const bool was = initialised;
    initialised = false;
    if (was) finish_cameras();
    pthread_mutex_unlock(&sim_lock);
    if (was) {
        script_close();
        ledger_close();
    }
    pthread_mutex_unlock(&life_lock);
    return note(was ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED);
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
    NEED(!system_handle, GC_ERR_RESOURCE_IN_USE);
    *out = system_handle = handle_new(SYSTEM, &system_handle);
    END;
}

static void close_interface(void) {
    for (int i = 0; i < script_cameras(); i++) camera_close(&cameras[i]);
    event_unregister_all(interface_handle);
    handle_drop(interface_handle);
    interface_handle = NULL;
}

GC_API TLClose(TL_HANDLE tl) {
    BEGIN;
    NEED(handle_object(tl, SYSTEM), GC_ERR_INVALID_HANDLE);
    handle_drop(tl);
    if (interface_handle) close_interface();
    event_unregister_all(tl);
    system_handle = NULL;
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
    NEED(!interface_handle, GC_ERR_RESOURCE_IN_USE);
    *out = interface_handle = handle_new(INTERFACE, &interface_handle);
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
    *out = system_handle;
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

static GC_ERROR device_info(const struct camera *camera, DEVICE_INFO_CMD command,
                            INFO_DATATYPE *type, void *to, size_t *size) {
    switch (command) {
        case DEVICE_INFO_ID: return info_text(camera->setup->id, type, to, size);
        case DEVICE_INFO_VENDOR: return info_text("sealrec", type, to, size);
        case DEVICE_INFO_MODEL: return info_text(camera->model, type, to, size);
        case DEVICE_INFO_TLTYPE: return info_text("U3V", type, to, size);
        case DEVICE_INFO_DISPLAYNAME: return info_text(camera->model, type, to, size);
        case DEVICE_INFO_ACCESS_STATUS:
            return info_i32(camera_access_status(camera), type, to, size);
        case DEVICE_INFO_USER_DEFINED_NAME: return info_text(camera->user_id, type, to, size);
        case DEVICE_INFO_SERIAL_NUMBER: return info_text(camera->setup->serial, type, to, size);
        case DEVICE_INFO_VERSION: return info_text("1.0.0", type, to, size);
        case DEVICE_INFO_TIMESTAMP_FREQUENCY: return info_u64(NS_PER_S, type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

GC_API IFGetDeviceInfo(IF_HANDLE interface, const char *id, DEVICE_INFO_CMD command,
                       INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    NEED(handle_object(interface, INTERFACE), GC_ERR_INVALID_HANDLE);
    const struct camera *camera = camera_of_id(id);
    NEED(camera, GC_ERR_INVALID_ID);
    result = device_info(camera, command, type, to, size);
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

/* --- device ---------------------------------------------------------------------------------- */

GC_API DevClose(DEV_HANDLE device) {
    BEGIN;
    struct camera *camera = handle_object(device, DEVICE);
    NEED(camera, GC_ERR_INVALID_HANDLE);
    camera_close(camera);
    END;
}

GC_API DevGetInfo(DEV_HANDLE device, DEVICE_INFO_CMD command, INFO_DATATYPE *type, void *to,
                  size_t *size) {
    BEGIN;
    const struct camera *camera = handle_object(device, DEVICE);
    NEED(camera, GC_ERR_INVALID_HANDLE);
    result = device_info(camera, command, type, to, size);
    END;
}

GC_API DevGetParentIF(DEV_HANDLE device, IF_HANDLE *out) {
    BEGIN;
    NEED(handle_object(device, DEVICE), GC_ERR_INVALID_HANDLE);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    *out = interface_handle;
    END;
}

GC_API DevGetPort(DEV_HANDLE device, PORT_HANDLE *out) {
    BEGIN;
    const struct camera *camera = handle_object(device, DEVICE);
    NEED(camera, GC_ERR_INVALID_HANDLE);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    *out = camera->port;
    END;
}

GC_API DevGetNumDataStreams(DEV_HANDLE device, uint32_t *count) {
    BEGIN;
    NEED(handle_object(device, DEVICE), GC_ERR_INVALID_HANDLE);
    NEED(count, GC_ERR_INVALID_PARAMETER);
    *count = 1;
    END;
}

GC_API DevGetDataStreamID(DEV_HANDLE device, uint32_t index, char *id, size_t *size) {
    BEGIN;
    NEED(handle_object(device, DEVICE), GC_ERR_INVALID_HANDLE);
    NEED(index == 0, GC_ERR_INVALID_INDEX);
    result = info_text("Stream0", NULL, id, size);
    END;
}

GC_API DevOpenDataStream(DEV_HANDLE device, const char *id, DS_HANDLE *out) {
    BEGIN;
    struct camera *camera = handle_object(device, DEVICE);
    NEED(camera, GC_ERR_INVALID_HANDLE);
    NEED(id && !strcmp(id, "Stream0"), GC_ERR_INVALID_ID);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    NEED(!camera->stream.handle, GC_ERR_RESOURCE_IN_USE);
    *out = camera->stream.handle = handle_new(STREAM, camera);
    END;
}

/* --- data stream ----------------------------------------------------------------------------- */

#define STREAM_OF(handle)                                      \
    struct camera *camera = handle_object((handle), STREAM);   \
    NEED(camera, GC_ERR_INVALID_HANDLE)

GC_API DSClose(DS_HANDLE stream) {
    BEGIN;
    STREAM_OF(stream);
    stream_close(camera);
    END;
}

GC_API DSGetInfo(DS_HANDLE stream, STREAM_INFO_CMD command, INFO_DATATYPE *type, void *to,
                 size_t *size) {
    BEGIN;
    STREAM_OF(stream);
    result = stream_info(camera, command, type, to, size);
    END;
}

GC_API DSGetParentDev(DS_HANDLE stream, DEV_HANDLE *out) {
    BEGIN;
    STREAM_OF(stream);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    *out = camera->handle;
    END;
}

GC_API DSAnnounceBuffer(DS_HANDLE stream, void *memory, size_t size, void *user,
                        BUFFER_HANDLE *out) {
    BEGIN;
    STREAM_OF(stream);
    NEED(memory, GC_ERR_INVALID_PARAMETER);
    result = stream_announce(camera, memory, size, user, out);
    END;
}

GC_API DSAllocAndAnnounceBuffer(DS_HANDLE stream, size_t size, void *user, BUFFER_HANDLE *out) {
    BEGIN;
    STREAM_OF(stream);
    result = stream_announce(camera, NULL, size, user, out);
    END;
}

GC_API DSRevokeBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer, void **memory, void **user) {
    BEGIN;
    STREAM_OF(stream);
    result = stream_revoke(camera, buffer, memory, user);
    END;
}

GC_API DSQueueBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer) {
    BEGIN;
    STREAM_OF(stream);
    result = stream_queue(camera, buffer);
    END;
}

GC_API DSFlushQueue(DS_HANDLE stream, ACQ_QUEUE_TYPE operation) {
    BEGIN;
    STREAM_OF(stream);
    result = stream_flush(camera, operation);
    END;
}

GC_API DSStartAcquisition(DS_HANDLE stream, ACQ_START_FLAGS flags, uint64_t frames) {
    (void)flags;
    BEGIN;
    STREAM_OF(stream);
    result = stream_start(camera, frames);
    END;
}

GC_API DSStopAcquisition(DS_HANDLE stream, ACQ_STOP_FLAGS flags) {
    (void)flags;
    BEGIN;
    STREAM_OF(stream);
    result = stream_stop(camera);
    END;
}

GC_API DSGetBufferID(DS_HANDLE stream, uint32_t index, BUFFER_HANDLE *out) {
    BEGIN;
    STREAM_OF(stream);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    NEED(index < (uint32_t)camera->stream.buffers, GC_ERR_INVALID_INDEX);
    *out = camera->stream.buffer[index]->handle;
    END;
}

GC_API DSGetBufferInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, BUFFER_INFO_CMD command,
                       INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    STREAM_OF(stream);
    result = stream_buffer_info(camera, buffer, command, type, to, size);
    END;
}

GC_API DSGetBufferInfoStacked(DS_HANDLE stream, BUFFER_HANDLE buffer,
                              DS_BUFFER_INFO_STACKED *items, size_t count) {
    BEGIN;
    STREAM_OF(stream);
    NEED(items || !count, GC_ERR_INVALID_PARAMETER);
    for (size_t i = 0; i < count; i++) {
        DS_BUFFER_INFO_STACKED item;
        memcpy(&item, &items[i], sizeof item);
        INFO_DATATYPE type = INFO_DATATYPE_UNKNOWN;
        size_t size = item.iSize;
        item.iResult =
            stream_buffer_info(camera, buffer, item.iInfoCmd, &type, item.pBuffer, &size);
        item.iType = type;
        item.iSize = size;
        memcpy(&items[i], &item, sizeof item);
        if (item.iResult && !result) result = item.iResult;
    }
    END;
}

GC_API DSGetBufferChunkData(DS_HANDLE stream, BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA *chunks,
                            size_t *count) {
    (void)buffer, (void)chunks;
    BEGIN;
    STREAM_OF(stream);
    NEED(count, GC_ERR_INVALID_PARAMETER);
    *count = 0;
    result = GC_ERR_NO_DATA;
    END;
}

/* --- events ---------------------------------------------------------------------------------- */

GC_API GCRegisterEvent(EVENTSRC_HANDLE source, EVENT_TYPE type, EVENT_HANDLE *out) {
    BEGIN;
    NEED(handle_kind(source) != NO_HANDLE, GC_ERR_INVALID_HANDLE);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    result = event_register(source, handle_object(source, STREAM), type, out);
    END;
}

GC_API GCUnregisterEvent(EVENTSRC_HANDLE source, EVENT_TYPE type) {
    BEGIN;
    NEED(handle_kind(source) != NO_HANDLE, GC_ERR_INVALID_HANDLE);
    result = event_unregister(source, type);
    END;
}

GC_API EventGetData(EVENT_HANDLE event, void *to, size_t *size, uint64_t timeout_ms) {
    BEGIN;
    result = event_get_data(event, to, size, timeout_ms);
    END;
}

GC_API EventGetDataInfo(EVENT_HANDLE event, const void *data, size_t data_size,
                        EVENT_DATA_INFO_CMD command, INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    NEED(handle_object(event, EVENT), GC_ERR_INVALID_HANDLE);
    NEED(data && data_size >= sizeof(EVENT_NEW_BUFFER_DATA), GC_ERR_INVALID_PARAMETER);
    EVENT_NEW_BUFFER_DATA fields;
    memcpy(&fields, data, sizeof fields);
    if (command == EVENT_DATA_ID)
        result = info_pointer(fields.BufferHandle, type, to, size);
    else if (command == EVENT_DATA_VALUE)
        result = info_pointer(fields.pUserPointer, type, to, size);
    else
        result = GC_ERR_NOT_IMPLEMENTED;
    END;
}

GC_API EventGetInfo(EVENT_HANDLE event, EVENT_INFO_CMD command, INFO_DATATYPE *type, void *to,
                    size_t *size) {
    BEGIN;
    result = event_get_info(event, command, type, to, size);
    END;
}

GC_API EventFlush(EVENT_HANDLE event) {
    BEGIN;
    result = event_flush(event);
    END;
}

GC_API EventKill(EVENT_HANDLE event) {
    BEGIN;
    result = event_kill(event);
    END;
}

/* --- ports ----------------------------------------------------------------------------------- */

GC_API GCReadPort(PORT_HANDLE port, uint64_t address, void *to, size_t *size) {
    BEGIN;
    result = port_read(port, address, to, size);
    END;
}

GC_API GCWritePort(PORT_HANDLE port, uint64_t address, const void *from, size_t *size) {
    BEGIN;
    NEED(from && size, GC_ERR_INVALID_PARAMETER);
    result = port_write(port, address, from, *size);
    END;
}

static GC_ERROR stacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count,
                        bool reading) {
    for (size_t i = 0; i < *count; i++) {
        PORT_REGISTER_STACK_ENTRY entry;
        memcpy(&entry, &entries[i], sizeof entry);
        const GC_ERROR error =
            reading ? port_read(port, entry.Address, entry.pBuffer, &entry.Size)
                    : port_write(port, entry.Address, entry.pBuffer, entry.Size);
        if (error) {
            *count = i; /* as many as succeeded */
            return error;
        }
    }
    return GC_ERR_SUCCESS;
}

GC_API GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    BEGIN;
    NEED(entries && count, GC_ERR_INVALID_PARAMETER);
    result = stacked(port, entries, count, true);
    END;
}

GC_API GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count) {
    BEGIN;
    NEED(entries && count, GC_ERR_INVALID_PARAMETER);
    result = stacked(port, entries, count, false);
    END;
}

GC_API GCGetPortInfo(PORT_HANDLE port, PORT_INFO_CMD command, INFO_DATATYPE *type, void *to,
                     size_t *size) {
    BEGIN;
    result = port_info(port, command, type, to, size);
    END;
}

GC_API GCGetPortURL(PORT_HANDLE port, char *url, size_t *size) {
    BEGIN;
    result = port_url_info(port, URL_INFO_URL, NULL, url, size);
    END;
}

GC_API GCGetNumPortURLs(PORT_HANDLE port, uint32_t *count) {
    BEGIN;
    NEED(handle_kind(port) != NO_HANDLE, GC_ERR_INVALID_HANDLE);
    NEED(count, GC_ERR_INVALID_PARAMETER);
    *count = 1;
    END;
}

GC_API GCGetPortURLInfo(PORT_HANDLE port, uint32_t index, URL_INFO_CMD command,
                        INFO_DATATYPE *type, void *to, size_t *size) {
    BEGIN;
    NEED(index == 0, GC_ERR_INVALID_INDEX);
    result = port_url_info(port, command, type, to, size);
    END;
}
