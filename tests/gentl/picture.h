/* What the sensor sees: a noisy pattern that scrolls, with the frame id as a barcode on top. */
#ifndef SEALREC_PICTURE_H
#define SEALREC_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* PFNC codes of the formats the camera offers. */
enum pixel_format {
    MONO8 = 0x01080001,
    BAYER_RG8 = 0x01080009,
    RGB8 = 0x02180014,
    BGR8 = 0x02180015,
    YUV422_8_UYVY = 0x0210001F
};

struct geometry {
    int width, height;
    enum pixel_format format;
};

struct picture {
    struct geometry geometry;
    uint8_t *strip; /* the picture and 128 rows more; a frame is a window into it */
};

int bytes_per_pixel(enum pixel_format format); /* 0: not offered */
size_t frame_bytes(struct geometry geometry);

/* Render the strip for this geometry, unless it is there already. False: no memory. */
bool picture_render(struct picture *picture, struct geometry geometry);
/* Write the first filled_bytes of frame frame_id; what lies behind them stays as it is. */
void picture_fill(const struct picture *picture, int64_t frame_id, uint8_t *to,
                  size_t filled_bytes);
void picture_free(struct picture *picture);

#endif
