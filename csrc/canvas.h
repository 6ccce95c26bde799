/* A small RGB picture to draw on, for c_render. Coordinates are pixels, y grows downwards, colours are 0xRRGGBB.
 * Shapes are anti-aliased by their distance to a pixel's centre, and whatever lies outside the picture is cut off. */
#ifndef PUFFER_IL_CANVAS_H
#define PUFFER_IL_CANVAS_H

#include <math.h>
#include <stdint.h>

typedef struct {
    int width, height;
    uint8_t *pixels;  // [height][width][3]
} Canvas;

enum {  // so that pictures of different environments look alike
    CANVAS_PAPER = 0xfafaf7,
    CANVAS_INK = 0x22262b,
    CANVAS_GREY = 0x9aa0a6,
    CANVAS_LIGHT = 0xe3e5e8,
    CANVAS_BLUE = 0x2b6cb0,
    CANVAS_RED = 0xc53030,
    CANVAS_GREEN = 0x2f855a,
    CANVAS_GOLD = 0xd69e2e,
};

/* Blends a colour over a pixel that is there; `share` in [0, 1]. */
static inline void canvas_blend(Canvas *c, int x, int y, double share, uint32_t color) {
    uint8_t *pixel = c->pixels + ((int64_t)y * c->width + x) * 3;
    for (int k = 0; k < 3; k++) {
        const double over = (color >> (16 - 8 * k)) & 255;
        pixel[k] = (uint8_t)(pixel[k] + (over - pixel[k]) * share + 0.5);
    }
}

/* A coordinate as a pixel number within [0, size]; NaN becomes 0. */
static inline int canvas_pixel(double x, int size) {
    return x > 0 ? (x < size ? (int)x : size) : 0;
}

static inline void canvas_clear(Canvas *c, uint32_t color) {
    for (int64_t i = 0; i < (int64_t)c->width * c->height; i++)
        for (int k = 0; k < 3; k++)
            c->pixels[i * 3 + k] = (uint8_t)(color >> (16 - 8 * k));
}

/* Edges lie where they are said to, to a fraction of a pixel. */
static inline void canvas_rect(Canvas *c, double x, double y, double w, double h, uint32_t color) {
    const int x1 = canvas_pixel(ceil(x + w), c->width), y1 = canvas_pixel(ceil(y + h), c->height);
    for (int j = canvas_pixel(floor(y), c->height); j < y1; j++)
        for (int i = canvas_pixel(floor(x), c->width); i < x1; i++) {
            const double wide = fmin(i + 1, x + w) - fmax(i, x), high = fmin(j + 1, y + h) - fmax(j, y);
            if (wide > 0 && high > 0)
                canvas_blend(c, i, j, wide * high, color);
        }
}

/* A thick line with round ends. */
static inline void canvas_line(Canvas *c, double x0, double y0, double x1, double y1, double thickness, uint32_t color) {
    const double r = thickness / 2, dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy;
    const int right = canvas_pixel(ceil(fmax(x0, x1) + r + 1), c->width);
    const int bottom = canvas_pixel(ceil(fmax(y0, y1) + r + 1), c->height);
    for (int j = canvas_pixel(floor(fmin(y0, y1) - r - 1), c->height); j < bottom; j++)
        for (int i = canvas_pixel(floor(fmin(x0, x1) - r - 1), c->width); i < right; i++) {
            const double px = i + 0.5 - x0, py = j + 0.5 - y0;
            const double along = length2 > 0 ? fmin(fmax((px * dx + py * dy) / length2, 0), 1) : 0;
            const double distance = hypot(px - along * dx, py - along * dy) - r;
            if (distance < 0.5)
                canvas_blend(c, i, j, fmin(0.5 - distance, 1), color);
        }
}

static inline void canvas_disc(Canvas *c, double x, double y, double r, uint32_t color) {
    canvas_line(c, x, y, x, y, 2 * r, color);
}

/* A circle of radius r, `thickness` to both sides of it together. */
static inline void canvas_ring(Canvas *c, double x, double y, double r, double thickness, uint32_t color) {
    const double outer = r + thickness / 2 + 1;
    const int right = canvas_pixel(ceil(x + outer), c->width), bottom = canvas_pixel(ceil(y + outer), c->height);
    for (int j = canvas_pixel(floor(y - outer), c->height); j < bottom; j++)
        for (int i = canvas_pixel(floor(x - outer), c->width); i < right; i++) {
            const double distance = fabs(hypot(i + 0.5 - x, j + 0.5 - y) - r) - thickness / 2;
            if (distance < 0.5)
                canvas_blend(c, i, j, fmin(0.5 - distance, 1), color);
        }
}

/* A filled polygon of n corners x, y, x, y, …, by the even-odd rule. Pixels are covered as 4 × 4 of their points are. */
static inline void canvas_polygon(Canvas *c, const double *xy, int n, uint32_t color) {
    double left = INFINITY, top = INFINITY, right = -INFINITY, bottom = -INFINITY;
    for (int k = 0; k < n; k++) {
        left = fmin(left, xy[2 * k]), right = fmax(right, xy[2 * k]);
        top = fmin(top, xy[2 * k + 1]), bottom = fmax(bottom, xy[2 * k + 1]);
    }
    const int i1 = canvas_pixel(ceil(right), c->width), j1 = canvas_pixel(ceil(bottom), c->height);
    for (int j = canvas_pixel(floor(top), c->height); j < j1; j++)
        for (int i = canvas_pixel(floor(left), c->width); i < i1; i++) {
            int inside = 0;
            for (int s = 0; s < 16; s++) {
                const double px = i + (s & 3) / 4.0 + 0.125, py = j + (s >> 2) / 4.0 + 0.125;
                int odd = 0;
                for (int a = n - 1, b = 0; b < n; a = b++) {
                    const double ay = xy[2 * a + 1], by = xy[2 * b + 1];
                    if ((ay > py) != (by > py))
                        odd ^= px < xy[2 * a] + (py - ay) / (by - ay) * (xy[2 * b] - xy[2 * a]);
                }
                inside += odd;
            }
            if (inside)
                canvas_blend(c, i, j, inside / 16.0, color);
        }
}

/* Another RGB picture [ih][iw][3], stretched to w × h pixels without smoothing. */
static inline void canvas_image(Canvas *c, double x, double y, double w, double h, const uint8_t *rgb, int iw, int ih) {
    const int right = canvas_pixel(ceil(x + w - 0.5), c->width), bottom = canvas_pixel(ceil(y + h - 0.5), c->height);
    for (int j = canvas_pixel(ceil(y - 0.5), c->height); j < bottom; j++)
        for (int i = canvas_pixel(ceil(x - 0.5), c->width); i < right; i++) {
            const int u = canvas_pixel((i + 0.5 - x) / w * iw, iw - 1), v = canvas_pixel((j + 0.5 - y) / h * ih, ih - 1);
            const uint8_t *from = rgb + ((int64_t)v * iw + u) * 3;
            canvas_blend(c, i, j, 1, (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2]);
        }
}

/* A font of 5 × 7 cells: columns from the left, the lowest bit on top; from ' ' to 'Z'. */
static const uint8_t CANVAS_FONT[59][5] = {
    {0, 0, 0, 0, 0},                {0, 0, 0x5f, 0, 0},             {0, 7, 0, 7, 0},
    {0x14, 0x7f, 0x14, 0x7f, 0x14}, {0x24, 0x2a, 0x7f, 0x2a, 0x12}, {0x23, 0x13, 8, 0x64, 0x62},
    {0x36, 0x49, 0x55, 0x22, 0x50}, {0, 5, 3, 0, 0},                {0, 0x1c, 0x22, 0x41, 0},
    {0, 0x41, 0x22, 0x1c, 0},       {0x14, 8, 0x3e, 8, 0x14},       {8, 8, 0x3e, 8, 8},
    {0, 0x50, 0x30, 0, 0},          {8, 8, 8, 8, 8},                {0, 0x60, 0x60, 0, 0},
    {0x20, 0x10, 8, 4, 2},
    {0x3e, 0x51, 0x49, 0x45, 0x3e}, {0, 0x42, 0x7f, 0x40, 0},       {0x42, 0x61, 0x51, 0x49, 0x46},
    {0x21, 0x41, 0x45, 0x4b, 0x31}, {0x18, 0x14, 0x12, 0x7f, 0x10}, {0x27, 0x45, 0x45, 0x45, 0x39},
    {0x3c, 0x4a, 0x49, 0x49, 0x30}, {1, 0x71, 9, 5, 3},             {0x36, 0x49, 0x49, 0x49, 0x36},
    {6, 0x49, 0x49, 0x29, 0x1e},
    {0, 0x36, 0x36, 0, 0},          {0, 0x56, 0x36, 0, 0},          {8, 0x14, 0x22, 0x41, 0},
    {0x14, 0x14, 0x14, 0x14, 0x14}, {0, 0x41, 0x22, 0x14, 8},       {2, 1, 0x51, 9, 6},
    {0x32, 0x49, 0x79, 0x41, 0x3e},
    {0x7e, 0x11, 0x11, 0x11, 0x7e}, {0x7f, 0x49, 0x49, 0x49, 0x36}, {0x3e, 0x41, 0x41, 0x41, 0x22},
    {0x7f, 0x41, 0x41, 0x22, 0x1c}, {0x7f, 0x49, 0x49, 0x49, 0x41}, {0x7f, 9, 9, 9, 1},
    {0x3e, 0x41, 0x49, 0x49, 0x7a}, {0x7f, 8, 8, 8, 0x7f},          {0, 0x41, 0x7f, 0x41, 0},
    {0x20, 0x40, 0x41, 0x3f, 1},    {0x7f, 8, 0x14, 0x22, 0x41},    {0x7f, 0x40, 0x40, 0x40, 0x40},
    {0x7f, 2, 0x0c, 2, 0x7f},       {0x7f, 4, 8, 0x10, 0x7f},       {0x3e, 0x41, 0x41, 0x41, 0x3e},
    {0x7f, 9, 9, 9, 6},             {0x3e, 0x41, 0x51, 0x21, 0x5e}, {0x7f, 9, 0x19, 0x29, 0x46},
    {0x46, 0x49, 0x49, 0x49, 0x31}, {1, 1, 0x7f, 1, 1},             {0x3f, 0x40, 0x40, 0x40, 0x3f},
    {0x1f, 0x20, 0x40, 0x20, 0x1f}, {0x3f, 0x40, 0x38, 0x40, 0x3f}, {0x63, 0x14, 8, 0x14, 0x63},
    {7, 8, 0x70, 8, 7},             {0x61, 0x51, 0x49, 0x45, 0x43},
};

/* Text from its upper left corner, a cell `size` pixels wide; 6 cells per letter. Small letters are shown as capitals,
 * unknown ones as blanks. */
static inline void canvas_text(Canvas *c, double x, double y, double size, const char *text, uint32_t color) {
    for (; *text; text++, x += 6 * size) {
        const int letter = *text >= 'a' && *text <= 'z' ? *text - 32 : *text;
        const uint8_t *columns = CANVAS_FONT[letter >= ' ' && letter <= 'Z' ? letter - ' ' : 0];
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 7; j++)
                if (columns[i] >> j & 1)
                    canvas_rect(c, x + i * size, y + j * size, size, size, color);
    }
}

#endif
