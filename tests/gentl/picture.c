/* See picture.h. A frame costs one copy: all drawing is done once, into the strip. */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

enum { SCROLL_ROWS = 128, ROWS_PER_FRAME = 2, CELLS = 64, MAX_CELL = 16, ONE = 235, ZERO = 16 };

int bytes_per_pixel(enum pixel_format format) {
    switch (format) {
        case MONO8:
        case BAYER_RG8: return 1;
        case YUV422_8_UYVY: return 2;
        case RGB8:
        case BGR8: return 3;
    }
    return 0;
}

static size_t row_bytes(struct geometry geometry) {
    return (size_t)geometry.width * (size_t)bytes_per_pixel(geometry.format);
}

size_t frame_bytes(struct geometry geometry) {
    return row_bytes(geometry) * (size_t)geometry.height;
}

/* 0..63..0 with a period of 128, so that the strip's end meets its beginning. */
static int wave(int place) {
    const int phase = place & 127;
    return phase < 64 ? phase : 127 - phase;
}

struct colour { uint8_t red, green, blue; };

static struct colour colour_at(int x, int y, uint32_t *random) {
    *random = *random * 1664525u + 1013904223u;
    const int noise = (int)(*random >> 28) - 8; /* about what a sensor at some gain has */
    return (struct colour){(uint8_t)(90 + noise + wave(x + y)),
                           (uint8_t)(70 + noise + 2 * wave(y - x / 2)),
                           (uint8_t)(100 + noise + wave(x / 4 - y))};
}

static void draw_pixel(uint8_t *row, int x, int y, enum pixel_format format, struct colour c) {
    const int luma = (c.red + 2 * c.green + c.blue) / 4;
    switch (format) {
        case MONO8: row[x] = (uint8_t)luma; break;
        case BAYER_RG8: row[x] = (x & 1) == (y & 1) ? ((y & 1) ? c.blue : c.red) : c.green; break;
        case RGB8: memcpy(row + 3 * x, (uint8_t[]){c.red, c.green, c.blue}, 3); break;
        case BGR8: memcpy(row + 3 * x, (uint8_t[]){c.blue, c.green, c.red}, 3); break;
        case YUV422_8_UYVY:
            row[2 * x] = (uint8_t)(128 + ((x & 1 ? c.red : c.blue) - luma) / 2);
            row[2 * x + 1] = (uint8_t)luma;
            break;
    }
}

bool picture_render(struct picture *picture, struct geometry geometry) {
    const struct geometry *have = &picture->geometry;
    if (picture->strip && have->width == geometry.width && have->height == geometry.height &&
        have->format == geometry.format)
        return true;
    const int rows = geometry.height + SCROLL_ROWS;
    free(picture->strip);
    picture->strip = malloc(row_bytes(geometry) * (size_t)rows);
    picture->geometry = geometry;
    if (!picture->strip) return false;
    uint32_t random = 1;
    for (int y = 0; y < rows; y++) {
        uint8_t *row = picture->strip + (size_t)y * row_bytes(geometry);
        for (int x = 0; x < geometry.width; x++)
            draw_pixel(row, x, y, geometry.format, colour_at(x, y, &random));
    }
    return true;
}

static void set_gray(uint8_t *row, int x, enum pixel_format format, uint8_t gray) {
    switch (format) {
        case MONO8:
        case BAYER_RG8: row[x] = gray; break;
        case RGB8:
        case BGR8: memset(row + 3 * x, gray, 3); break;
        case YUV422_8_UYVY:
            row[2 * x] = 128;
            row[2 * x + 1] = gray;
            break;
    }
}

/* 64 square cells at the top left, most significant bit first: the id, then its complement. */
static void stamp(struct geometry geometry, int64_t frame_id, uint8_t *to, size_t filled_bytes) {
    int cell = geometry.width / CELLS;
    cell = cell < 2 ? 2 : cell > MAX_CELL ? MAX_CELL : cell;
    if (geometry.width < CELLS * cell || geometry.height < cell) return;
    const size_t row = row_bytes(geometry);
    const size_t bar = (size_t)CELLS * (size_t)cell * row / (size_t)geometry.width;
    if (filled_bytes < (size_t)cell * row) return;
    const uint64_t bits = (uint64_t)(uint32_t)frame_id << 32 | (uint32_t)~frame_id;
    for (int x = 0; x < CELLS * cell; x++)
        set_gray(to, x, geometry.format, bits >> (CELLS - 1 - x / cell) & 1 ? ONE : ZERO);
    for (int y = 1; y < cell; y++) memcpy(to + (size_t)y * row, to, bar);
}

void picture_fill(const struct picture *picture, int64_t frame_id, uint8_t *to,
                  size_t filled_bytes) {
    const size_t first_row = (size_t)(frame_id * ROWS_PER_FRAME) % SCROLL_ROWS;
    memcpy(to, picture->strip + first_row * row_bytes(picture->geometry), filled_bytes);
    stamp(picture->geometry, frame_id, to, filled_bytes);
}

void picture_free(struct picture *picture) {
    free(picture->strip);
    *picture = (struct picture){0};
}
