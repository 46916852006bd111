/* Payloads of the Crossbar-HIL wire protocol, version 1: what a board reads out of requests and puts into answers.
 *
 * C99, no memory of its own; what is read points into the payload, which must stay. Needs IEEE 754 floats of 4 and 8
 * bytes. SPDX-License-Identifier: MIT
 */
#ifndef XB_PAYLOAD_H
#define XB_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -- numbers and texts --------------------------------------------------------------------------------------------- */

/* Takes a payload apart. Once it has ended too early, or holds what it must not, `bad` stays true and all is zero. */
typedef struct {
    const uint8_t *at;
    uint32_t left;
    bool bad;
} xb_reader;

/* A text of UTF-8; no zero stands at its end. */
typedef struct {
    const char *at;
    uint16_t size;
} xb_text;

uint8_t xb_get_u8(xb_reader *from);
uint16_t xb_get_u16(xb_reader *from);
uint32_t xb_get_u32(xb_reader *from);
uint64_t xb_get_u64(xb_reader *from);
double xb_get_f64(xb_reader *from);
xb_text xb_get_text(xb_reader *from);

/* Puts a payload together. Once there was no room, `full` stays true and nothing more is written. */
typedef struct {
    uint8_t *out;
    uint32_t used, room;
    bool full;
} xb_writer;

void xb_put_u8(xb_writer *to, uint8_t value);
void xb_put_u16(xb_writer *to, uint16_t value);
void xb_put_u32(xb_writer *to, uint32_t value);
void xb_put_u64(xb_writer *to, uint64_t value);
void xb_put_f32(xb_writer *to, float value);
void xb_put_f64(xb_writer *to, double value);
void xb_put_text(xb_writer *to, const char *text); /* ends with a zero; at most 65,535 bytes are written */

/* -- arrays -------------------------------------------------------------------------------------------------------- */

enum xb_array_kind {
    XB_NONE = 0,
    XB_SCALAR = 1,
    XB_INT8 = 2,
    XB_INT16 = 3,
    XB_INT32 = 4,
    XB_INT64 = 5,
    XB_UINT8 = 6,
    XB_BITS = 7,
    XB_FLOAT32 = 8,
    XB_FLOAT64 = 9,
    XB_CODES_FLOAT32 = 10,
    XB_CODES_FLOAT64 = 11,
    XB_SPARSE8 = 12
};

enum { XB_MOST_DIMENSIONS = 8, XB_MOST_ELEMENTS = 1 << 26 };

/* An array where it lies in the payload. */
typedef struct {
    uint8_t kind;
    uint8_t dimensions;
    uint32_t size[XB_MOST_DIMENSIONS];   /* what it stands for */
    uint32_t stride[XB_MOST_DIMENSIONS]; /* elements from one slice to the next; 0 where one slice stands for all */
    uint32_t count;                      /* elements in the data */
    double scale;                        /* the number itself (XB_SCALAR), or the value of one code (XB_CODES_...) */
    const uint8_t *data;
    uint32_t seen, rank; /* where the last look into an XB_SPARSE8 was */
} xb_array;

/* Takes an array; false, and the reader is bad, when it is none. */
bool xb_get_array(xb_reader *from, xb_array *array);

/* One element, by `dimensions` indices; 64-bit integers beyond 2^53 are rounded. In an XB_SPARSE8 rising places are
 * quick. */
double xb_array_at(xb_array *array, const uint32_t *index);

/* The same as a whole number: of codes the code itself; of floats 0. */
int32_t xb_array_code(xb_array *array, const uint32_t *index);

/* Whether the array broadcasts to [a, b, c]: a number does, and dimensions are matched from the last. */
bool xb_array_fits(const xb_array *array, uint32_t a, uint32_t b, uint32_t c);

/* The element of an array that fits; 0 of an XB_NONE. */
double xb_array_cell(xb_array *array, uint32_t a, uint32_t b, uint32_t c);

void xb_put_none(xb_writer *to);
void xb_put_scalar(xb_writer *to, double value);

/* The head of an array; its data follow with xb_put_... `step` is written for codes only. */
void xb_put_array(xb_writer *to, uint8_t kind, uint8_t dimensions, const uint32_t *size, double step);

/* -- operations ---------------------------------------------------------------------------------------------------- */

enum xb_op_kind { XB_READ = 1, XB_READ_CELLS, XB_PULSE, XB_OUTER, XB_RAMP, XB_WAIT, XB_PROBE };
enum xb_side { XB_ROWS = 0, XB_COLS = 1 };
enum xb_bias { XB_FLOAT = 0, XB_GROUND, XB_HALF, XB_THIRD, XB_OWN_WAY = 255 };
enum xb_ramp_kind { XB_FORM = 0, XB_SET, XB_RESET, XB_SWEEP };
enum xb_knob { XB_KNOB_VOLTS = 0, XB_KNOB_GATE };

typedef struct {
    uint16_t count, n_rows, n_cols; /* T blocks of R x C cells */
    const uint8_t *places;
} xb_blocks;

uint16_t xb_block_kernel(const xb_blocks *blocks, uint16_t t);
uint16_t xb_block_row(const xb_blocks *blocks, uint16_t t);
uint16_t xb_block_col(const xb_blocks *blocks, uint16_t t);

typedef struct {
    bool has_volts, has_gate, has_full_scale, has_amps;
    uint16_t averages;
    double volts, gate, full_scale, amps;
    uint8_t unselected; /* enum xb_bias */
} xb_sense;

typedef struct {
    xb_array volts; /* a number, or fits [T, R, C] */
    double seconds;
    xb_array gate; /* likewise, or XB_NONE */
    xb_array amps; /* a number or XB_NONE */
} xb_shape;

typedef struct {
    xb_array low, high; /* a number, or fits [T, R, C] */
    bool has_slope, has_flat, has_rise_after;
    double amps_max, jump, rise, slope, flat, after_volts, after_amps;
    uint32_t rises, hits;
} xb_stop;

/* One operation; each kind uses the fields that its comment names. About 1.3 kB. */
typedef struct {
    uint8_t kind;
    xb_blocks blocks;          /* all but WAIT and PROBE */
    uint8_t drive;             /* READ, READ_CELLS: enum xb_side */
    bool pairs;                /* READ */
    xb_sense sense;            /* READ, READ_CELLS, RAMP */
    const uint8_t *feed;       /* READ: T numbers of two bytes, or NULL for one each; see xb_feed */
    xb_array values;           /* READ: [feeds, batch, driven] V; READ_CELLS: mask or XB_NONE; PULSE: counts;
                                  OUTER: bits of the rows [T, slots, R]; RAMP: signs */
    xb_array more;             /* OUTER: bits of the columns [T, slots, C]; RAMP: points [steps] V */
    xb_shape up, down;         /* PULSE, OUTER; RAMP: its one shape is `up` */
    uint16_t cycles;           /* PULSE */
    bool alternate;            /* PULSE */
    uint8_t unselected;        /* PULSE, OUTER: enum xb_bias */
    uint8_t ramp_kind, knob;   /* RAMP */
    bool back, trace;          /* RAMP */
    xb_array start;            /* RAMP: index of the first point, a number or fits [T, R, C] */
    xb_stop stop;              /* RAMP */
    double seconds;            /* WAIT */
    uint8_t names;             /* PROBE: how many; take them with xb_get_text from `probes` */
    xb_reader probes;          /* PROBE */
} xb_op;

/* The row of `values` that block t gets in a READ. */
uint16_t xb_feed(const xb_op *op, uint16_t t);

/* Takes one operation; false, and the reader is bad, when it is none. */
bool xb_get_op(xb_reader *from, xb_op *op);

/* -- what stands around operations --------------------------------------------------------------------------------- */

typedef struct {
    uint64_t session;
    double watchdog; /* s; 0 for never */
    xb_text owner;
} xb_hello;

typedef struct {
    uint64_t session;
    uint32_t token;
    bool first;
} xb_ticket;

typedef struct {
    uint32_t last;
    uint16_t window;
    uint32_t most_bytes;
    bool restorable, virtual_time, in_real_time, resumed;
    double now; /* s */
} xb_welcome;

typedef struct {
    bool busy, is_safe, owned;
    uint32_t last;
    double now; /* s */
} xb_report;

enum xb_applied { XB_NOT_WRITING = 0, XB_AS_ASKED = 1, XB_LISTED = 2 };

/* What stands before the arrays of an outcome: its value, its flags, and for XB_LISTED the pulses of each cell. */
typedef struct {
    uint8_t applied;
    bool knows_joules;
    double began, seconds; /* s */
    uint32_t events;
    double joules;
} xb_outcome;

bool xb_get_hello(xb_reader *from, xb_hello *hello);
bool xb_get_ticket(xb_reader *from, xb_ticket *ticket);
void xb_put_welcome(xb_writer *to, const xb_welcome *welcome);
void xb_put_report(xb_writer *to, const xb_report *report);
void xb_put_outcome(xb_writer *to, const xb_outcome *outcome);

#ifdef __cplusplus
}
#endif

#endif
