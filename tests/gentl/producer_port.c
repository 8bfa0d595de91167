/* The exported GenTL functions for events and for reading and writing registers. */
#include "api.h"
#include "event.h"
#include "port.h"

#include <string.h>

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
