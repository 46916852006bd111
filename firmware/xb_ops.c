/* Operations. SPDX-License-Identifier: MIT */
#include "xb_payload.h"

#include <string.h>

static uint16_t at16(const uint8_t *at) { return (uint16_t)(at[0] | (uint16_t)at[1] << 8); }

uint16_t xb_block_kernel(const xb_blocks *blocks, uint16_t t) { return at16(blocks->places + 2 * (size_t)t); }

uint16_t xb_block_row(const xb_blocks *blocks, uint16_t t) {
    return at16(blocks->places + 2 * ((size_t)blocks->count + t));
}

uint16_t xb_block_col(const xb_blocks *blocks, uint16_t t) {
    return at16(blocks->places + 2 * (2 * (size_t)blocks->count + t));
}

uint16_t xb_feed(const xb_op *op, uint16_t t) { return op->feed ? at16(op->feed + 2 * (size_t)t) : t; }

/* -- parts of operations ------------------------------------------------------------------------------------------- */

static const uint8_t *skip(xb_reader *from, uint32_t bytes) {
    if (from->bad || bytes > from->left) {
        from->bad = true;
        return NULL;
    }
    from->at += bytes;
    from->left -= bytes;
    return from->at - bytes;
}

static uint8_t below(xb_reader *from, uint8_t most) {
    const uint8_t value = xb_get_u8(from);
    from->bad |= value >= most;
    return value;
}

static bool is_index(double value) { return value >= 0 && value < 2147483647.0 && value == (double)(int32_t)value; }

static uint8_t get_bias(xb_reader *from) {
    const uint8_t value = xb_get_u8(from);
    from->bad |= value > XB_THIRD && value != XB_OWN_WAY;
    return value;
}

static void get_blocks(xb_reader *from, xb_blocks *blocks) {
    blocks->count = xb_get_u16(from);
    blocks->n_rows = xb_get_u16(from);
    blocks->n_cols = xb_get_u16(from);
    blocks->places = skip(from, 6 * (uint32_t)blocks->count);
}

static void get_sense(xb_reader *from, xb_sense *sense) {
    const uint8_t given = xb_get_u8(from);
    sense->averages = xb_get_u16(from);
    sense->volts = xb_get_f64(from);
    sense->gate = xb_get_f64(from);
    sense->full_scale = xb_get_f64(from);
    sense->amps = xb_get_f64(from);
    sense->unselected = get_bias(from);
    sense->has_volts = given & 1;
    sense->has_gate = given & 2;
    sense->has_full_scale = given & 4;
    sense->has_amps = given & 8;
}

/* An array that fits the cells of the operation's blocks, or where it may be missing, none. */
static void get_cells(xb_reader *from, xb_array *array, const xb_blocks *blocks, bool may_miss) {
    xb_get_array(from, array);
    if (!(may_miss && array->kind == XB_NONE)) {
        from->bad |= !xb_array_fits(array, blocks->count, blocks->n_rows, blocks->n_cols);
    }
}

/* An array of three dimensions. */
static void get_cube(xb_reader *from, xb_array *array) {
    xb_get_array(from, array);
    from->bad |= array->dimensions != 3;
}

static void get_shape(xb_reader *from, xb_shape *shape, const xb_blocks *blocks) {
    get_cells(from, &shape->volts, blocks, false);
    shape->seconds = xb_get_f64(from);
    get_cells(from, &shape->gate, blocks, true);
    xb_get_array(from, &shape->amps);
    from->bad |= shape->amps.kind > XB_SCALAR;
}

static void get_stop(xb_reader *from, xb_stop *stop, const xb_blocks *blocks) {
    get_cells(from, &stop->low, blocks, false);
    get_cells(from, &stop->high, blocks, false);
    const uint8_t given = xb_get_u8(from);
    stop->amps_max = xb_get_f64(from);
    stop->jump = xb_get_f64(from);
    stop->rise = xb_get_f64(from);
    stop->rises = xb_get_u32(from);
    stop->slope = xb_get_f64(from);
    stop->flat = xb_get_f64(from);
    stop->hits = xb_get_u32(from);
    stop->after_volts = xb_get_f64(from);
    stop->after_amps = xb_get_f64(from);
    stop->has_slope = given & 1;
    stop->has_flat = given & 2;
    stop->has_rise_after = given & 4;
}

/* -- operations ---------------------------------------------------------------------------------------------------- */

static void get_read(xb_reader *from, xb_op *op) {
    op->drive = below(from, 2);
    op->pairs = xb_get_u8(from) != 0;
    get_sense(from, &op->sense);
    op->feed = xb_get_u8(from) ? skip(from, 2 * (uint32_t)op->blocks.count) : NULL;
    get_cube(from, &op->values);
    const uint16_t driven = op->drive == XB_ROWS ? op->blocks.n_rows : op->blocks.n_cols;
    from->bad |= op->values.size[2] != driven;
    for (uint16_t t = 0; !from->bad && t < op->blocks.count; t++) {
        from->bad |= xb_feed(op, t) >= op->values.size[0];
    }
}

static void get_read_cells(xb_reader *from, xb_op *op) {
    op->drive = below(from, 2);
    get_sense(from, &op->sense);
    get_cells(from, &op->values, &op->blocks, true);
}

static void get_pulse(xb_reader *from, xb_op *op) {
    op->cycles = xb_get_u16(from);
    op->alternate = xb_get_u8(from) != 0;
    op->unselected = get_bias(from);
    get_shape(from, &op->up, &op->blocks);
    get_shape(from, &op->down, &op->blocks);
    get_cells(from, &op->values, &op->blocks, false);
}

static void get_outer(xb_reader *from, xb_op *op) {
    op->unselected = get_bias(from);
    get_shape(from, &op->up, &op->blocks);
    get_shape(from, &op->down, &op->blocks);
    get_cube(from, &op->values);
    get_cube(from, &op->more);
    const uint32_t slots = op->values.size[1];
    from->bad |= !xb_array_fits(&op->values, op->blocks.count, slots, op->blocks.n_rows);
    from->bad |= !xb_array_fits(&op->more, op->blocks.count, slots, op->blocks.n_cols);
}

static void get_ramp(xb_reader *from, xb_op *op) {
    op->ramp_kind = below(from, 4);
    op->knob = below(from, 2);
    const uint8_t flags = xb_get_u8(from);
    op->back = flags & 1;
    op->trace = flags & 2;
    get_cells(from, &op->values, &op->blocks, false);
    get_shape(from, &op->up, &op->blocks);
    xb_get_array(from, &op->more);
    from->bad |= op->more.dimensions != 1;
    get_cells(from, &op->start, &op->blocks, false);
    from->bad |= op->start.kind == XB_SCALAR && !is_index(op->start.scale);
    get_sense(from, &op->sense);
    get_stop(from, &op->stop, &op->blocks);
}

static void get_probe(xb_reader *from, xb_op *op) {
    op->names = xb_get_u8(from);
    op->probes = *from;
    for (uint8_t i = 0; i < op->names; i++) {
        xb_get_text(from);
    }
}

bool xb_get_op(xb_reader *from, xb_op *op) {
    memset(op, 0, sizeof *op);
    op->kind = xb_get_u8(from);
    if (op->kind >= XB_READ && op->kind <= XB_RAMP) {
        get_blocks(from, &op->blocks);
    }
    switch (op->kind) {
    case XB_READ:
        get_read(from, op);
        break;
    case XB_READ_CELLS:
        get_read_cells(from, op);
        break;
    case XB_PULSE:
        get_pulse(from, op);
        break;
    case XB_OUTER:
        get_outer(from, op);
        break;
    case XB_RAMP:
        get_ramp(from, op);
        break;
    case XB_WAIT:
        op->seconds = xb_get_f64(from);
        break;
    case XB_PROBE:
        get_probe(from, op);
        break;
    default:
        from->bad = true;
    }
    return !from->bad;
}
