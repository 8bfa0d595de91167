/* See info.h. */
#include "info.h"

#include <string.h>

GC_ERROR info_bytes(const void *value, size_t bytes, INFO_DATATYPE is, INFO_DATATYPE *type,
                    void *to, size_t *size) {
    if (!size) return GC_ERR_INVALID_PARAMETER;
    if (type) *type = is;
    const size_t room = *size;
    *size = bytes;
    if (!to) return GC_ERR_SUCCESS;
    if (room < bytes) return GC_ERR_BUFFER_TOO_SMALL;
    memcpy(to, value, bytes);
    return GC_ERR_SUCCESS;
}

GC_ERROR info_text(const char *text, INFO_DATATYPE *type, void *to, size_t *size) {
    return info_bytes(text, strlen(text) + 1, INFO_DATATYPE_STRING, type, to, size);
}

GC_ERROR info_bool(bool value, INFO_DATATYPE *type, void *to, size_t *size) {
    const bool8_t byte = value;
    return info_bytes(&byte, sizeof byte, INFO_DATATYPE_BOOL8, type, to, size);
}

GC_ERROR info_i32(int32_t value, INFO_DATATYPE *type, void *to, size_t *size) {
    return info_bytes(&value, sizeof value, INFO_DATATYPE_INT32, type, to, size);
}

GC_ERROR info_u32(uint32_t value, INFO_DATATYPE *type, void *to, size_t *size) {
    return info_bytes(&value, sizeof value, INFO_DATATYPE_UINT32, type, to, size);
}

GC_ERROR info_u64(uint64_t value, INFO_DATATYPE *type, void *to, size_t *size) {
    return info_bytes(&value, sizeof value, INFO_DATATYPE_UINT64, type, to, size);
}

GC_ERROR info_size(size_t value, INFO_DATATYPE *type, void *to, size_t *size) {
    return info_bytes(&value, sizeof value, INFO_DATATYPE_SIZET, type, to, size);
}

GC_ERROR info_pointer(const void *value, INFO_DATATYPE *type, void *to, size_t *size) {
    return info_bytes(&value, sizeof value, INFO_DATATYPE_PTR, type, to, size);
}
