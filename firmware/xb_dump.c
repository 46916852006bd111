/* Shows frames: bytes of a link in, one line of JSON for each frame out. A tool for a desk, not for a board.
 *
 *     cc -std=c99 -o xb_dump xb_dump.c xb_ops.c xb_payload.c xb_frame.c
 *     xb_dump < bytes        shows every frame
 *     xb_dump ops < bytes    takes EXECUTE frames for requests, and shows their operations
 *     xb_dump echo < bytes   writes every frame again, encoded anew
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>

#include "xb_frame.h"
#include "xb_payload.h"

enum { ROOM = 1 << 22 };
static uint8_t arrived[ROOM], again[ROOM];

static void show_number(double value) {
    if (value != value) {
        printf("NaN");
    } else if (value > 1.7e308 || value < -1.7e308) {
        printf(value > 0 ? "Infinity" : "-Infinity");
    } else {
        printf("%.17g", value);
    }
}

/* Shows a field and its number. */
static void show(const char *name, double value) {
    printf("\"%s\":", name);
    show_number(value);
    printf(",");
}

static void show_text(xb_text text) {
    putchar('"');
    for (uint16_t i = 0; i < text.size; i++) {
        const char c = text.at[i];
        putchar(c >= ' ' && c <= '~' && c != '"' && c != '\\' ? c : '?');
    }
    putchar('"');
}

static void show_given(const char *name, bool is_given, double value) {
    if (is_given) {
        show(name, value);
    }
}

static void show_array(const char *name, xb_array *array) {
    uint32_t index[XB_MOST_DIMENSIONS] = {0}, whole = 1;
    if (array->kind <= XB_SCALAR) {
        show_given(name, array->kind == XB_SCALAR, array->scale);
        return;
    }
    printf("\"%s\":{\"kind\":%u,\"size\":[", name, array->kind);
    for (uint8_t i = 0; i < array->dimensions; i++) {
        printf(i ? ",%lu" : "%lu", (unsigned long)array->size[i]);
        whole *= array->size[i];
    }
    printf("],\"values\":[");
    for (uint32_t n = 0; n < whole; n++) {
        printf(n ? "," : "");
        show_number(xb_array_at(array, index));
        for (uint8_t i = array->dimensions; i--;) {
            if (++index[i] < array->size[i]) {
                break;
            }
            index[i] = 0;
        }
    }
    printf("]},");
}

static void show_sense(const xb_sense *sense) {
    show("averages", sense->averages);
    show("sense_unselected", sense->unselected);
    show_given("sense_volts", sense->has_volts, sense->volts);
    show_given("sense_gate", sense->has_gate, sense->gate);
    show_given("full_scale", sense->has_full_scale, sense->full_scale);
    show_given("sense_amps", sense->has_amps, sense->amps);
}

static void show_shape(const char *name, xb_shape *shape) {
    printf("\"%s\":{", name);
    show("seconds", shape->seconds);
    show_array("gate", &shape->gate);
    show_array("amps", &shape->amps);
    show_array("volts", &shape->volts);
    printf("\"end\":0},");
}

static void show_stop(xb_stop *stop) {
    show_array("low", &stop->low);
    show_array("high", &stop->high);
    show("amps_max", stop->amps_max);
    show("jump", stop->jump);
    show("rise", stop->rise);
    show("rises", stop->rises);
    show("hits", stop->hits);
    show_given("slope", stop->has_slope, stop->slope);
    show_given("flat", stop->has_flat, stop->flat);
    show_given("after_volts", stop->has_rise_after, stop->after_volts);
    show_given("after_amps", stop->has_rise_after, stop->after_amps);
}

static void show_blocks(const xb_blocks *blocks) {
    printf("\"blocks\":[");
    for (uint16_t t = 0; t < blocks->count; t++) {
        printf(t ? ",[%u,%u,%u]" : "[%u,%u,%u]", xb_block_kernel(blocks, t), xb_block_row(blocks, t),
               xb_block_col(blocks, t));
    }
    printf("],\"n_rows\":%u,\"n_cols\":%u,", blocks->n_rows, blocks->n_cols);
}

static void show_op(xb_op *op) {
    printf("{\"op\":%u,", op->kind);
    if (op->kind <= XB_RAMP) {
        show_blocks(&op->blocks);
    }
    if (op->kind <= XB_READ_CELLS) {
        show("drive", op->drive);
        show_sense(&op->sense);
    }
    if (op->kind == XB_READ) {
        show("pairs", op->pairs);
        printf("\"feed\":[");
        for (uint16_t t = 0; t < op->blocks.count; t++) {
            printf(t ? ",%u" : "%u", xb_feed(op, t));
        }
        printf("],");
    }
    if (op->kind == XB_PULSE) {
        show("cycles", op->cycles);
        show("alternate", op->alternate);
    }
    if (op->kind == XB_PULSE || op->kind == XB_OUTER) {
        show("unselected", op->unselected);
        show_shape("down", &op->down);
    }
    if (op->kind >= XB_PULSE && op->kind <= XB_RAMP) {
        show_shape("up", &op->up);
    }
    if (op->kind == XB_RAMP) {
        show("ramp_kind", op->ramp_kind);
        show("knob", op->knob);
        show("back", op->back);
        show("trace", op->trace);
        show_array("start", &op->start);
        show_sense(&op->sense);
        show_stop(&op->stop);
    }
    show_array("values", &op->values);
    show_array("more", &op->more);
    show_given("seconds", op->kind == XB_WAIT, op->seconds);
    printf("\"names\":[");
    for (uint8_t i = 0; i < op->names; i++) {
        printf(i ? "," : "");
        show_text(xb_get_text(&op->probes));
    }
    printf("]}");
}

static void show_execute(const xb_frame *frame) {
    static xb_op op;
    xb_reader from = {frame->payload, frame->size, false};
    xb_ticket ticket;
    xb_get_ticket(&from, &ticket);
    const uint16_t count = xb_get_u16(&from);
    printf(",\"session\":%llu,\"token\":%lu,\"first\":%d,\"ops\":[", (unsigned long long)ticket.session,
           (unsigned long)ticket.token, ticket.first);
    for (uint16_t i = 0; i < count && xb_get_op(&from, &op); i++) {
        printf(i ? "," : "");
        show_op(&op);
    }
    printf("],\"good\":%s", from.bad || from.left ? "false" : "true");
}

int main(int words, char **word) {
    const char *what = words > 1 ? word[1] : "";
    xb_decoder decoder;
    xb_frame frame;
    xb_decoder_init(&decoder, arrived, ROOM);
    for (int byte = getchar(); byte != EOF; byte = getchar()) {
        bool found = xb_decoder_feed(&decoder, (uint8_t)byte, &frame);
        for (; found; found = xb_decoder_more(&decoder, &frame)) {
            if (!strcmp(what, "echo")) {
                fwrite(again, 1, xb_frame_encode(&frame, again, ROOM), stdout);
                continue;
            }
            printf("{\"opcode\":%u,\"sequence\":%u,\"status\":%u,\"size\":%lu", frame.opcode, frame.sequence,
                   frame.status, (unsigned long)frame.size);
            if (!strcmp(what, "ops") && frame.opcode == XB_EXECUTE) {
                show_execute(&frame);
            }
            printf("}\n");
        }
    }
    return 0;
}
