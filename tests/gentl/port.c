/* See port.h. The XML bytes come from descriptions.h, which build.py makes from the .xml files. */
#include "port.h"
#include "camera.h"
#include "descriptions.h"
#include "handles.h"
#include "info.h"
#include "stream.h"

#include <stdio.h>
#include <string.h>

static const uint64_t description_address = 0x80000000;

struct module {
    const char *file, *name, *port; /* as GenTL and GenApi call them */
    const unsigned char *description;
    size_t size;
};

static const struct module modules[] = {
    [SYSTEM] = {"system.xml", "TLSystem", "TLPort", system_xml, sizeof system_xml},
    [INTERFACE] = {"interface.xml", "TLInterface", "InterfacePort", interface_xml,
                   sizeof interface_xml},
    [DEVICE] = {"device.xml", "TLDevice", "DevicePort", device_xml, sizeof device_xml},
    [REMOTE] = {"camera.xml", "Device", "Device", camera_xml, sizeof camera_xml},
    [STREAM] = {"stream.xml", "TLDataStream", "StreamPort", stream_xml, sizeof stream_xml},
};

static const struct module *module_of(PORT_HANDLE port) {
    const enum handle_kind kind = handle_kind(port);
    return kind == NO_HANDLE || kind > STREAM ? NULL : &modules[kind];
}

static struct camera *camera_of(PORT_HANDLE port) {
    const enum handle_kind kind = handle_kind(port);
    return kind == DEVICE || kind == REMOTE || kind == STREAM ? handle_object(port, kind) : NULL;
}

static GC_ERROR read_description(const struct module *module, uint64_t place, void *to,
                                 size_t *size) {
    if (place >= module->size) return GC_ERR_INVALID_ADDRESS;
    if (*size > module->size - place) *size = module->size - place;
    memcpy(to, module->description + place, *size);
    return GC_ERR_SUCCESS;
}

/* The one text register that each of the host's modules has: its id. */
static GC_ERROR read_id(const char *id, uint64_t address, void *to, size_t *size) {
    char text[TEXT] = {0};
    if (address != 0x3000) return GC_ERR_INVALID_ADDRESS;
    snprintf(text, sizeof text, "%s", id);
    if (*size > sizeof text) *size = sizeof text;
    memcpy(to, text, *size);
    return GC_ERR_SUCCESS;
}

static const char *id_of(enum handle_kind kind, const struct camera *camera) {
    if (kind == DEVICE && camera) return camera->setup->id;
    return kind == SYSTEM ? "sealrec.sim" : kind == INTERFACE ? "SimulatedUSB" : "Stream0";
}

/* A camera whose registers hang answers once the span is over, or the handle is no more. */
static void endure_hang(PORT_HANDLE port) {
    const struct camera *camera;
    while ((camera = handle_object(port, REMOTE)) &&
           script_span_end(camera->index, HANG, now_ns()))
        wait_until(&cameras[camera->index].wake, now_ns() + NS_PER_S / 20);
}

GC_ERROR port_read(PORT_HANDLE port, uint64_t address, void *to, size_t *size) {
    endure_hang(port);
    const struct module *module = module_of(port);
    struct camera *camera = camera_of(port);
    if (!module) return GC_ERR_INVALID_HANDLE;
    if (!to || !size) return GC_ERR_INVALID_PARAMETER;
    const enum handle_kind kind = handle_kind(port);
    if (kind == REMOTE && (!camera || camera_lost(camera))) return GC_ERR_IO;
    if (address >= description_address)
        return read_description(module, address - description_address, to, size);
    if (kind == REMOTE) return camera_read(camera, address, to, size);
    if (kind == STREAM && address < 0x3000) {
        int64_t value;
        const GC_ERROR error = stream_read(camera, address, &value);
        if (error) return error;
        if (*size > sizeof value) *size = sizeof value;
        memcpy(to, &value, *size);
        return GC_ERR_SUCCESS;
    }
    return read_id(id_of(kind, camera), address, to, size);
}

GC_ERROR port_write(PORT_HANDLE port, uint64_t address, const void *from, size_t size) {
    endure_hang(port);
    struct camera *camera = handle_object(port, REMOTE);
    if (!module_of(port)) return GC_ERR_INVALID_HANDLE;
    if (!from) return GC_ERR_INVALID_PARAMETER;
    if (!camera) return GC_ERR_ACCESS_DENIED;
    return camera_lost(camera) ? GC_ERR_IO : camera_write(camera, address, from, size);
}

GC_ERROR port_info(PORT_HANDLE port, PORT_INFO_CMD command, INFO_DATATYPE *type, void *to,
                   size_t *size) {
    const struct module *module = module_of(port);
    if (!module) return GC_ERR_INVALID_HANDLE;
    switch (command) {
        case PORT_INFO_ID:
        case PORT_INFO_PORTNAME: return info_text(module->port, type, to, size);
        case PORT_INFO_VENDOR: return info_text("sealrec", type, to, size);
        case PORT_INFO_MODEL: return info_text("Simulated cameras", type, to, size);
        case PORT_INFO_TLTYPE: return info_text("U3V", type, to, size);
        case PORT_INFO_MODULE: return info_text(module->name, type, to, size);
        case PORT_INFO_LITTLE_ENDIAN:
        case PORT_INFO_ACCESS_READ:
        case PORT_INFO_ACCESS_WRITE: return info_bool(true, type, to, size);
        case PORT_INFO_BIG_ENDIAN:
        case PORT_INFO_ACCESS_NA:
        case PORT_INFO_ACCESS_NI: return info_bool(false, type, to, size);
        case PORT_INFO_VERSION: return info_text("1.0.0", type, to, size);
        default: return GC_ERR_NOT_IMPLEMENTED;
    }
}

GC_ERROR port_url_info(PORT_HANDLE port, URL_INFO_CMD command, INFO_DATATYPE *type, void *to,
                       size_t *size) {
    const struct module *module = module_of(port);
    if (!module) return GC_ERR_INVALID_HANDLE;
    char url[96];
    snprintf(url, sizeof url, "local:%s;%llX;%zX", module->file,
             (unsigned long long)description_address, module->size);
    switch (command) {
        case URL_INFO_URL: return info_text(url, type, to, size);
        case URL_INFO_SCHEMA_VER_MAJOR:
        case URL_INFO_SCHEMA_VER_MINOR:
        case URL_INFO_FILE_VER_MAJOR: return info_i32(1, type, to, size);
        case URL_INFO_FILE_VER_MINOR:
        case URL_INFO_FILE_VER_SUBMINOR: return info_i32(0, type, to, size);
        case URL_INFO_FILE_REGISTER_ADDRESS:
            return info_u64(description_address, type, to, size);
        case URL_INFO_FILE_SIZE: return info_u64(module->size, type, to, size);
        case URL_INFO_SCHEME: return info_i32(URL_SCHEME_LOCAL, type, to, size);
        case URL_INFO_FILENAME: return info_text(module->file, type, to, size);
        default: return GC_ERR_NOT_AVAILABLE;
    }
}
