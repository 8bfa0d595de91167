/* See handles.h: slot number in the low bits, a number never used again above them. */
#include "handles.h"

#include <stddef.h>
#include <stdint.h>

enum { SLOTS = 8192 };

static struct {
    enum handle_kind kind;
    uintptr_t serial;
    void *object;
} table[SLOTS];

static uintptr_t serial = 1;
static size_t next_slot = 0;

void *handle_new(enum handle_kind kind, void *object) {
    for (size_t tried = 0; tried < SLOTS; tried++) {
        const size_t slot = next_slot++ % SLOTS;
        if (table[slot].kind != NO_HANDLE) continue;
        table[slot].kind = kind;
        table[slot].serial = serial++;
        table[slot].object = object;
        return (void *)(table[slot].serial * SLOTS + slot);
    }
    return NULL;
}

static size_t slot_of(const void *handle) {
    const uintptr_t number = (uintptr_t)handle;
    const size_t slot = number % SLOTS;
    const int known = table[slot].kind != NO_HANDLE && table[slot].serial == number / SLOTS;
    return known ? slot : SLOTS;
}

void handle_drop(void *handle) {
    const size_t slot = slot_of(handle);
    if (slot < SLOTS) table[slot].kind = NO_HANDLE;
}

void handle_drop_all(void) {
    for (size_t slot = 0; slot < SLOTS; slot++) table[slot].kind = NO_HANDLE;
}

enum handle_kind handle_kind(const void *handle) {
    const size_t slot = slot_of(handle);
    return slot < SLOTS ? table[slot].kind : NO_HANDLE;
}

void *handle_object(const void *handle, enum handle_kind kind) {
    const size_t slot = slot_of(handle);
    return slot < SLOTS && table[slot].kind == kind ? table[slot].object : NULL;
}
