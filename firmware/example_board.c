/* The smallest board: one client, one array of 4 x 4 made-up cells; it reads cells, pulses them and waits.
 *
 *     cc -std=c99 -o example_board example_board.c xb_ops.c xb_payload.c xb_frame.c
 *
 * It talks through standard input and output, and tests/wire/test_firmware.py drives it with the real driver. What a
 * board on a bench needs beside it: README.md. SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>

#include "xb_frame.h"
#include "xb_payload.h"

enum { ROWS = 4, COLS = 4, WINDOW = 4, MOST_BYTES = 2048, ANSWER_BYTES = 4096, TOP = 100 };

static const double LINE_VOLTS = 2.5;   /* the board's own last line of defence */
static const double AMPS_STEP = 1e-7;   /* A of one code */
static const double READ_SECONDS = 1e-3;
static const double PULSE_SECONDS = 1e-3; /* beside the pulse's own width */
static const char IDENTITY[] = "{\"vendor\":\"Crossbar-HIL\",\"model\":\"example\",\"serial\":\"example-1\","
                               "\"firmware\":\"1.0\",\"name\":\"example\",\"wire\":1}";

static uint8_t level[ROWS][COLS]; /* of each cell: 10 uS and 2 uS a level */
static bool is_on;                /* the output */
static double now;                /* lab time, s */

static bool is_owned, is_halted;
static uint64_t session;
static uint32_t last; /* newest token handled */

static struct {
    uint16_t status;
    uint32_t size;
    uint8_t payload[ANSWER_BYTES];
} kept[WINDOW]; /* answers by token, for requests that come again */

/* -- the hardware -------------------------------------------------------------------------------------------------- */

static void make_safe(void) { is_on = false; /* 0 V on all lines first, then the outputs off */ }

static bool exists(const xb_blocks *blocks) {
    for (uint16_t t = 0; t < blocks->count; t++) {
        if (xb_block_kernel(blocks, t) || xb_block_row(blocks, t) + (uint32_t)blocks->n_rows > ROWS ||
            xb_block_col(blocks, t) + (uint32_t)blocks->n_cols > COLS) {
            return false;
        }
    }
    return true;
}

static bool is_allowed(double volts) { return volts >= -LINE_VOLTS && volts <= LINE_VOLTS; /* false for NaN */ }

static void pulse(uint8_t *cell, int32_t count, uint16_t cycles, bool alternate) {
    for (uint16_t cycle = 0; cycle < cycles; cycle++) {
        const int32_t to = *cell + (alternate && cycle % 2 ? -count : count);
        *cell = (uint8_t)(to < 0 ? 0 : to > TOP ? TOP : to);
    }
}

/* -- operations ---------------------------------------------------------------------------------------------------- */

static void read_cells(xb_op *op, xb_writer *to) {
    const uint32_t size[3] = {op->blocks.count, op->blocks.n_rows, op->blocks.n_cols};
    const xb_outcome outcome = {XB_NOT_WRITING, false, now, size[0] * size[1] * READ_SECONDS, size[0] * size[1], 0};
    is_on = true;
    xb_put_outcome(to, &outcome);
    xb_put_array(to, XB_CODES_FLOAT32, 3, size, AMPS_STEP);
    for (uint16_t t = 0; t < size[0]; t++) {
        for (uint16_t r = 0; r < size[1]; r++) {
            for (uint16_t c = 0; c < size[2]; c++) { /* a real board looks at the link here: SAFE may have come */
                const uint8_t cell = level[xb_block_row(&op->blocks, t) + r][xb_block_col(&op->blocks, t) + c];
                const double codes = op->sense.volts * (10e-6 + 2e-6 * cell) / AMPS_STEP;
                xb_put_u16(to, (uint16_t)(int16_t)(codes < 0 ? codes - 0.5 : codes + 0.5));
            }
        }
    }
    xb_put_none(to); /* no flags */
    now += outcome.seconds;
}

static void pulse_cells(xb_op *op, xb_writer *to) {
    uint32_t pulses = 0;
    is_on = true;
    for (uint16_t t = 0; t < op->blocks.count; t++) {
        for (uint16_t r = 0; r < op->blocks.n_rows; r++) {
            for (uint16_t c = 0; c < op->blocks.n_cols; c++) {
                const int32_t count = (int32_t)xb_array_cell(&op->values, t, r, c);
                uint8_t *cell = &level[xb_block_row(&op->blocks, t) + r][xb_block_col(&op->blocks, t) + c];
                pulse(cell, count, op->cycles, op->alternate);
                pulses += op->cycles * (uint32_t)(count < 0 ? -count : count);
            }
        }
    }
    const xb_outcome outcome = {XB_AS_ASKED, false, now, pulses * (op->up.seconds + PULSE_SECONDS), pulses, 0};
    xb_put_outcome(to, &outcome);
    xb_put_none(to); /* no value */
    xb_put_none(to);
    now += outcome.seconds;
}

static void wait_seconds(const xb_op *op, xb_writer *to) {
    const xb_outcome outcome = {XB_NOT_WRITING, false, now, op->seconds, 0, 0};
    xb_put_outcome(to, &outcome);
    xb_put_none(to);
    xb_put_none(to);
    now += op->seconds;
}

/* Why the whole list is refused before anything of it is done; XB_OK when it is not. */
static uint16_t look_through(xb_reader from, uint16_t count) {
    static xb_op op;
    for (uint16_t i = 0; i < count; i++) {
        if (!xb_get_op(&from, &op)) {
            return XB_BAD_PAYLOAD;
        }
        const bool is_plain = op.up.volts.kind <= XB_SCALAR && op.down.volts.kind <= XB_SCALAR;
        if ((op.kind != XB_READ_CELLS && op.kind != XB_PULSE && op.kind != XB_WAIT) || !is_plain) {
            return XB_UNSUPPORTED;
        }
        if (!exists(&op.blocks)) {
            return XB_BAD_PAYLOAD;
        }
        if (!is_allowed(op.sense.volts) || !is_allowed(op.up.volts.scale) || !is_allowed(op.down.volts.scale)) {
            return XB_LIMIT;
        }
    }
    return from.left ? XB_BAD_PAYLOAD : XB_OK;
}

/* Carries a list out; a fault in the middle gives the outcomes before it, and a text. */
static uint16_t carry_out(xb_reader from, uint16_t count, xb_writer *to) {
    static xb_op op;
    uint16_t done = 0;
    xb_put_f64(to, now);
    xb_put_u16(to, count);
    for (; done < count && xb_get_op(&from, &op); done++) {
        const uint32_t cells = (uint32_t)op.blocks.count * op.blocks.n_rows * op.blocks.n_cols;
        if (op.kind == XB_READ_CELLS && to->room - to->used < 128 + 2 * cells) {
            break; /* never begin what cannot be answered */
        }
        if (op.kind == XB_READ_CELLS) {
            read_cells(&op, to);
        } else if (op.kind == XB_PULSE) {
            pulse_cells(&op, to);
        } else {
            wait_seconds(&op, to);
        }
    }
    if (done < count) {
        xb_put_text(to, "the answer would be too long");
    }
    xb_writer head = {to->out, 0, to->room, false}; /* now that they are known */
    xb_put_f64(&head, now);
    xb_put_u16(&head, done);
    return done < count ? XB_FAULT : XB_OK;
}

static uint16_t refuse(uint16_t status, xb_writer *to, const char *why) {
    xb_put_text(to, why);
    return status;
}

/* Each token is carried out once, whatever comes how often and in which order. */
static uint16_t execute(const xb_frame *frame, xb_writer *to) {
    xb_reader from = {frame->payload, frame->size, false};
    xb_ticket ticket;
    if (!xb_get_ticket(&from, &ticket)) {
        return refuse(XB_BAD_PAYLOAD, to, "it ends too early");
    }
    if (!is_owned || ticket.session != session) {
        return refuse(XB_NO_SESSION, to, "this session does not own the board");
    }
    const uint32_t place = ticket.token % WINDOW;
    if (ticket.token <= last) {
        if (last - ticket.token >= WINDOW) {
            return refuse(XB_OUT_OF_ORDER, to, "its answer is no longer kept");
        }
        memcpy(to->out, kept[place].payload, to->used = kept[place].size);
        return kept[place].status;
    }
    if (ticket.token != last + 1) {
        return refuse(XB_OUT_OF_ORDER, to, "a token before it is missing");
    }
    uint16_t status = XB_SKIPPED;
    if (!is_halted || ticket.first) {
        const uint16_t count = xb_get_u16(&from);
        status = from.bad ? XB_BAD_PAYLOAD : look_through(from, count);
        if (status != XB_OK) {
            return refuse(status, to, "nothing of it was carried out");
        }
        status = carry_out(from, count, to);
    }
    is_halted = status != XB_OK;
    last = ticket.token;
    kept[place].status = status;
    memcpy(kept[place].payload, to->out, kept[place].size = to->used);
    return status;
}

/* -- the other requests -------------------------------------------------------------------------------------------- */

static uint16_t hello(const xb_frame *frame, xb_writer *to) {
    xb_reader from = {frame->payload, frame->size, false};
    xb_hello asked;
    if (!xb_get_hello(&from, &asked)) {
        return refuse(XB_BAD_PAYLOAD, to, "it is no HELLO");
    }
    const bool resumed = is_owned && asked.session == session;
    if (!resumed) {
        is_owned = true;
        is_halted = false;
        session = asked.session;
        last = 0;
    }
    const xb_welcome welcome = {last, WINDOW, MOST_BYTES, false, true, false, resumed, now};
    xb_put_welcome(to, &welcome);
    return XB_OK;
}

static uint16_t tell_outputs(xb_writer *to) {
    xb_put_u8(to, !is_on); /* read back from the hardware on a real board */
    xb_put_u8(to, 1);
    xb_put_text(to, "lines");
    xb_put_u8(to, is_on);
    return XB_OK;
}

static uint16_t answer(const xb_frame *frame, xb_writer *to) {
    switch (frame->opcode) {
    case XB_IDENTIFY:
        for (const char *at = IDENTITY; *at; at++) {
            xb_put_u8(to, (uint8_t)*at);
        }
        return XB_OK;
    case XB_HELLO:
        return hello(frame, to);
    case XB_STATUS: {
        const xb_report report = {false, false, is_owned, last, now};
        xb_put_report(to, &report);
        return XB_OK;
    }
    case XB_EXECUTE:
        return execute(frame, to);
    case XB_GOODBYE:
        is_owned = false;
        make_safe();
        return tell_outputs(to);
    case XB_SAFE:
        is_halted = true;
        make_safe();
        return tell_outputs(to);
    case XB_OUTPUTS:
        return tell_outputs(to);
    default:
        return refuse(XB_UNKNOWN_OPCODE, to, "there is no such opcode");
    }
}

int main(void) {
    static uint8_t arrived[MOST_BYTES + XB_FRAME_BYTES], out[ANSWER_BYTES + XB_FRAME_BYTES];
    xb_decoder decoder;
    xb_frame frame;
    xb_decoder_init(&decoder, arrived, sizeof arrived);
    for (int byte = getchar(); byte != EOF; byte = getchar()) {
        bool found = xb_decoder_feed(&decoder, (uint8_t)byte, &frame);
        for (; found; found = xb_decoder_more(&decoder, &frame)) {
            xb_writer to = {out + XB_HEADER_BYTES, 0, ANSWER_BYTES, false};
            const uint16_t status = answer(&frame, &to);
            const xb_frame said = {frame.opcode, frame.sequence, status, to.out, to.used};
            fwrite(out, 1, xb_frame_encode(&said, out, sizeof out), stdout);
            fflush(stdout);
        }
    }
    make_safe(); /* the line to the owner broke */
    return 0;
}
