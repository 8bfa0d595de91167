/* The exported GenTL functions of an open camera: device and data stream. */
#include "api.h"
#include "stream.h"

#include <string.h>

/* --- device ---------------------------------------------------------------------------------- */

GC_ERROR api_device_info(const struct camera *camera, DEVICE_INFO_CMD command,
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
    result = api_device_info(camera, command, type, to, size);
    END;
}

GC_API DevGetParentIF(DEV_HANDLE device, IF_HANDLE *out) {
    BEGIN;
    NEED(handle_object(device, DEVICE), GC_ERR_INVALID_HANDLE);
    NEED(out, GC_ERR_INVALID_PARAMETER);
    *out = api_interface;
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
