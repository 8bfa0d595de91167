/* How GenTL hands out a value: its type, and its bytes if there is room; size alone without. */
#ifndef SEALREC_INFO_H
#define SEALREC_INFO_H

#include "gentl.h"

#include <stdbool.h>

GC_ERROR info_bytes(const void *value, size_t bytes, INFO_DATATYPE is, INFO_DATATYPE *type,
                    void *to, size_t *size);
GC_ERROR info_text(const char *text, INFO_DATATYPE *type, void *to, size_t *size);
GC_ERROR info_bool(bool value, INFO_DATATYPE *type, void *to, size_t *size);
GC_ERROR info_i32(int32_t value, INFO_DATATYPE *type, void *to, size_t *size);
GC_ERROR info_u32(uint32_t value, INFO_DATATYPE *type, void *to, size_t *size);
GC_ERROR info_u64(uint64_t value, INFO_DATATYPE *type, void *to, size_t *size);
GC_ERROR info_size(size_t value, INFO_DATATYPE *type, void *to, size_t *size);
GC_ERROR info_pointer(const void *value, INFO_DATATYPE *type, void *to, size_t *size);

#endif
