/* SPDX-License-Identifier: MIT */
#include "xb_payload.h"

#include <string.h>

typedef char doubles_have_8_bytes[sizeof(double) == 8 ? 1 : -1];
typedef char floats_have_4_bytes[sizeof(float) == 4 ? 1 : -1];

/* -- numbers and texts --------------------------------------------------------------------------------------------- */

static uint64_t number(const uint8_t *at, uint32_t bytes) {
    uint64_t value = 0;
    while (bytes--) {
        value = value << 8 | at[bytes];
    }
    return value;
}

/* Goes past bytes; NULL when there are not so many. */
static const uint8_t *take(xb_reader *from, uint32_t bytes) {
    if (from->bad || bytes > from->left) {
        from->bad = true;
        return NULL;
    }
    const uint8_t *at = from->at;
    from->at += bytes;
    from->left -= bytes;
    return at;
}

static uint64_t take_number(xb_reader *from, uint32_t bytes) {
    const uint8_t *at = take(from, bytes);
    return at ? number(at, bytes) : 0;
}

static double as_f64(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float as_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint8_t xb_get_u8(xb_reader *from) { return (uint8_t)take_number(from, 1); }
uint16_t xb_get_u16(xb_reader *from) { return (uint16_t)take_number(from, 2); }
uint32_t xb_get_u32(xb_reader *from) { return (uint32_t)take_number(from, 4); }
uint64_t xb_get_u64(xb_reader *from) { return take_number(from, 8); }
double xb_get_f64(xb_reader *from) { return as_f64(take_number(from, 8)); }

xb_text xb_get_text(xb_reader *from) {
    xb_text text = {"", xb_get_u16(from)};
    const uint8_t *at = take(from, text.size);
    if (at) {
        text.at = (const char *)at;
    } else {
        text.size = 0;
    }
    return text;
}

static void put(xb_writer *to, uint64_t value, uint32_t bytes) {
    if (to->full || bytes > to->room - to->used) {
        to->full = true;
        return;
    }
    for (; bytes; bytes--, value >>= 8) {
        to->out[to->used++] = (uint8_t)value;
    }
}

void xb_put_u8(xb_writer *to, uint8_t value) { put(to, value, 1); }
void xb_put_u16(xb_writer *to, uint16_t value) { put(to, value, 2); }
void xb_put_u32(xb_writer *to, uint32_t value) { put(to, value, 4); }
void xb_put_u64(xb_writer *to, uint64_t value) { put(to, value, 8); }

void xb_put_f32(xb_writer *to, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(to, bits, 4);
}

void xb_put_f64(xb_writer *to, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(to, bits, 8);
}

void xb_put_text(xb_writer *to, const char *text) {
    const size_t size = strlen(text), most = size < 0xFFFF ? size : 0xFFFF;
    put(to, most, 2);
    for (size_t i = 0; i < most; i++) {
        put(to, (uint8_t)text[i], 1);
    }
}

/* -- arrays -------------------------------------------------------------------------------------------------------- */

static const uint8_t ELEMENT_BYTES[XB_SPARSE8 + 1] = {0, 0, 1, 2, 4, 8, 1, 0, 4, 8, 2, 2, 0};

static bool bit(const uint8_t *map, uint32_t at) { return map[at / 8] >> at % 8 & 1; }

static uint32_t bits_set(const uint8_t *map, uint32_t from, uint32_t to) {
    uint32_t found = 0;
    for (; from < to; from++) {
        found += bit(map, from);
    }
    return found;
}

/* Takes the dimensions; false when the array is larger than it may be. */
static bool take_sizes(xb_reader *from, xb_array *array) {
    uint64_t whole = 1, written = 1; /* elements it stands for, and in the data; neither overflows */
    bool is_empty = false, holds_nothing = false;
    array->dimensions = xb_get_u8(from);
    if (array->dimensions > XB_MOST_DIMENSIONS) {
        return false;
    }
    for (uint8_t i = 0; i < array->dimensions; i++) {
        const uint32_t marked = xb_get_u32(from), size = marked & 0x7FFFFFFF;
        const bool is_once = marked >> 31;
        array->size[i] = size;
        array->stride[i] = !is_once; /* for now: whether it counts */
        is_empty |= size == 0;
        holds_nothing |= size == 0 && !is_once;
        if (size && whole <= XB_MOST_ELEMENTS) {
            whole *= size;
        }
        if (size && !is_once && written <= XB_MOST_ELEMENTS) {
            written *= size;
        }
    }
    if ((!is_empty && whole > XB_MOST_ELEMENTS) || (!holds_nothing && written > XB_MOST_ELEMENTS)) {
        return false;
    }
    uint32_t stride = 1;
    for (uint8_t i = array->dimensions; i--;) {
        const uint32_t slices = array->stride[i] ? array->size[i] : 1;
        array->stride[i] *= stride;
        stride *= slices;
    }
    array->count = holds_nothing ? 0 : (uint32_t)written;
    return true;
}

bool xb_get_array(xb_reader *from, xb_array *array) {
    memset(array, 0, sizeof *array);
    array->kind = xb_get_u8(from);
    if (array->kind == XB_NONE) {
        return !from->bad;
    }
    if (array->kind == XB_SCALAR) {
        array->scale = xb_get_f64(from);
        return !from->bad;
    }
    const bool is_codes = array->kind == XB_CODES_FLOAT32 || array->kind == XB_CODES_FLOAT64;
    if (array->kind > XB_SPARSE8 || !take_sizes(from, array)) {
        from->bad = true;
        return false;
    }
    if (is_codes) {
        array->scale = xb_get_f64(from);
        from->bad |= !(array->scale > -1e30 && array->scale < 1e30);
    }
    const bool is_map = array->kind == XB_BITS || array->kind == XB_SPARSE8;
    array->data = take(from, is_map ? (array->count + 7) / 8 : array->count * ELEMENT_BYTES[array->kind]);
    if (array->kind == XB_SPARSE8 && array->data) {
        take(from, bits_set(array->data, 0, array->count)); /* the non-zeros come right behind the map */
    }
    return !from->bad;
}

/* The whole number at a place of the data. */
static int64_t element(xb_array *array, uint32_t at) {
    const uint8_t *data = array->data;
    switch (array->kind) {
    case XB_INT8:
        return (int8_t)data[at];
    case XB_UINT8:
        return data[at];
    case XB_INT16:
    case XB_CODES_FLOAT32:
    case XB_CODES_FLOAT64:
        return (int16_t)number(data + 2 * (size_t)at, 2);
    case XB_INT32:
        return (int32_t)number(data + 4 * (size_t)at, 4);
    case XB_INT64:
        return (int64_t)number(data + 8 * (size_t)at, 8);
    case XB_BITS:
        return bit(data, at);
    case XB_SPARSE8:
        if (at < array->seen) {
            array->seen = array->rank = 0;
        }
        array->rank += bits_set(data, array->seen, at);
        array->seen = at;
        return bit(data, at) ? (int8_t)data[(array->count + 7) / 8 + array->rank] : 0;
    default:
        return 0;
    }
}

static double value_at(xb_array *array, uint32_t at) {
    switch (array->kind) {
    case XB_SCALAR:
        return array->scale;
    case XB_FLOAT32:
        return as_f32((uint32_t)number(array->data + 4 * (size_t)at, 4));
    case XB_FLOAT64:
        return as_f64(number(array->data + 8 * (size_t)at, 8));
    case XB_CODES_FLOAT32: /* in single precision, as the host does it */
        return (float)element(array, at) * (float)array->scale;
    case XB_CODES_FLOAT64:
        return (double)element(array, at) * array->scale;
    default:
        return (double)element(array, at);
    }
}

static uint32_t place(const xb_array *array, const uint32_t *index) {
    uint32_t at = 0;
    for (uint8_t i = 0; i < array->dimensions; i++) {
        at += index[i] * array->stride[i];
    }
    return at;
}

double xb_array_at(xb_array *array, const uint32_t *index) { return value_at(array, place(array, index)); }

int32_t xb_array_code(xb_array *array, const uint32_t *index) {
    return (int32_t)element(array, place(array, index));
}

bool xb_array_fits(const xb_array *array, uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t wanted[3] = {a, b, c};
    if (array->kind == XB_NONE || array->dimensions > 3) {
        return false;
    }
    for (uint8_t i = 0; i < array->dimensions; i++) {
        const uint32_t size = array->size[i];
        if (size != 1 && size != wanted[3 - array->dimensions + i]) {
            return false;
        }
    }
    return true;
}

double xb_array_cell(xb_array *array, uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t wanted[3] = {a, b, c};
    uint32_t at = 0;
    for (uint8_t i = 0; i < array->dimensions; i++) {
        at += array->size[i] == 1 ? 0 : wanted[3 - array->dimensions + i] * array->stride[i];
    }
    return value_at(array, at);
}

void xb_put_none(xb_writer *to) { put(to, XB_NONE, 1); }

void xb_put_scalar(xb_writer *to, double value) {
    put(to, XB_SCALAR, 1);
    xb_put_f64(to, value);
}

void xb_put_array(xb_writer *to, uint8_t kind, uint8_t dimensions, const uint32_t *size, double step) {
    put(to, kind, 1);
    put(to, dimensions, 1);
    for (uint8_t i = 0; i < dimensions; i++) {
        put(to, size[i], 4);
    }
    if (kind == XB_CODES_FLOAT32 || kind == XB_CODES_FLOAT64) {
        xb_put_f64(to, step);
    }
}

/* -- what stands around operations --------------------------------------------------------------------------------- */

bool xb_get_hello(xb_reader *from, xb_hello *hello) {
    hello->session = xb_get_u64(from);
    hello->watchdog = xb_get_f64(from);
    hello->owner = xb_get_text(from);
    from->bad |= !(hello->watchdog >= 0 && hello->watchdog <= 86400);
    return !from->bad;
}

bool xb_get_ticket(xb_reader *from, xb_ticket *ticket) {
    ticket->session = xb_get_u64(from);
    ticket->token = xb_get_u32(from);
    ticket->first = xb_get_u8(from) != 0;
    return !from->bad;
}

void xb_put_welcome(xb_writer *to, const xb_welcome *welcome) {
    xb_put_u32(to, welcome->last);
    xb_put_u16(to, welcome->window);
    xb_put_u32(to, welcome->most_bytes);
    xb_put_u8(to, (uint8_t)(welcome->restorable | welcome->virtual_time << 1 | welcome->in_real_time << 2 |
                            welcome->resumed << 3));
    xb_put_f64(to, welcome->now);
}

void xb_put_report(xb_writer *to, const xb_report *report) {
    xb_put_u8(to, (uint8_t)(report->busy | report->is_safe << 1 | report->owned << 2));
    xb_put_u32(to, report->last);
    xb_put_f64(to, report->now);
}

void xb_put_outcome(xb_writer *to, const xb_outcome *outcome) {
    xb_put_u8(to, outcome->applied);
    xb_put_u8(to, outcome->knows_joules);
    xb_put_f64(to, outcome->began);
    xb_put_f64(to, outcome->seconds);
    xb_put_u32(to, outcome->events);
    xb_put_f64(to, outcome->knows_joules ? outcome->joules : 0);
}
