/* Register access of the five modules and the XML that describes each. Needs sim_lock. */
#ifndef SEALREC_PORT_H
#define SEALREC_PORT_H

#include "gentl.h"

GC_ERROR port_read(PORT_HANDLE port, uint64_t address, void *to, size_t *size);
GC_ERROR port_write(PORT_HANDLE port, uint64_t address, const void *from, size_t size);
GC_ERROR port_info(PORT_HANDLE port, PORT_INFO_CMD command, INFO_DATATYPE *type, void *to,
                   size_t *size);
GC_ERROR port_url_info(PORT_HANDLE port, URL_INFO_CMD command, INFO_DATATYPE *type, void *to,
                       size_t *size);

#endif
