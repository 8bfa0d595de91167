/* Handles as given to the caller: numbers, never pointers, so that a stale or invented one is
 * recognised instead of followed. Needs sim_lock. */
#ifndef SEALREC_HANDLES_H
#define SEALREC_HANDLES_H

enum handle_kind { NO_HANDLE, SYSTEM, INTERFACE, DEVICE, REMOTE, STREAM, BUFFER, EVENT };

void *handle_new(enum handle_kind kind, void *object); /* NULL: too many */
void handle_drop(void *handle);                        /* unknown handles and NULL are ignored */
void handle_drop_all(void);
enum handle_kind handle_kind(const void *handle);
void *handle_object(const void *handle, enum handle_kind kind); /* NULL: not such a handle */

#endif
