/* Frames of the Crossbar-HIL wire protocol, version 1: docs/reference/wire-protocol.md.
 *
 * C99, no memory of its own, no input or output, no dependency. SPDX-License-Identifier: MIT
 */
#ifndef XB_FRAME_H
#define XB_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { XB_VERSION = 1, XB_HEADER_BYTES = 14, XB_TAIL_BYTES = 4, XB_FRAME_BYTES = XB_HEADER_BYTES + XB_TAIL_BYTES };

enum xb_opcode {
    XB_IDENTIFY = 0x01,
    XB_DESCRIBE = 0x02,
    XB_HELLO = 0x03,
    XB_STATUS = 0x04,
    XB_GOODBYE = 0x05,
    XB_EXECUTE = 0x10,
    XB_SAFE = 0x20,
    XB_OUTPUTS = 0x21,
    XB_SNAPSHOT = 0x30, /* of virtual boards only */
    XB_RESTORE = 0x31
};

enum xb_status {
    XB_OK = 0,
    XB_UNKNOWN_OPCODE = 1,
    XB_BAD_PAYLOAD = 2,
    XB_NO_SESSION = 3,
    XB_OWNED = 4,
    XB_OUT_OF_ORDER = 5,
    XB_SKIPPED = 6,
    XB_BUSY = 7,
    XB_FAULT = 8,
    XB_SAFE_STATE = 9,
    XB_UNSUPPORTED = 10,
    XB_LIMIT = 11
};

/* One request or answer. An answer repeats opcode and sequence of its request; status is 0 in a request. */
typedef struct {
    uint8_t opcode;
    uint16_t sequence;
    uint16_t status;
    const uint8_t *payload;
    uint32_t size; /* bytes of payload */
} xb_frame;

/* CRC-16/CCITT-FALSE; of the text "123456789" 0x29B1. */
uint16_t xb_crc16(const uint8_t *data, size_t size);

/* CRC-32 (ISO-HDLC); of the text "123456789" 0xCBF43926. */
uint32_t xb_crc32(const uint8_t *data, size_t size);

/* Writes a frame and gives its number of bytes, or 0 when `room` is too small. The payload may stand in `out` already,
 * at XB_HEADER_BYTES. */
size_t xb_frame_encode(const xb_frame *frame, uint8_t *out, size_t room);

/* Finds frames in a stream of bytes, split anywhere, with anything between them. */
typedef struct {
    uint8_t *buffer;
    uint32_t room;    /* bytes of `buffer` */
    uint32_t held;    /* bytes that have arrived and are still needed */
    uint32_t done;    /* bytes of the frame given last; dropped by the next call */
    uint32_t enough;  /* held bytes at which it is worth looking again */
    uint32_t dropped; /* bytes thrown away to get into step; for diagnosis */
} xb_decoder;

/* `buffer` holds the largest frame: the `most_bytes` of the welcome, and XB_FRAME_BYTES. A longer one is damage. */
void xb_decoder_init(xb_decoder *decoder, uint8_t *buffer, uint32_t room);

/* Takes one byte; true when a frame is there. Its payload lies in the buffer and is good until the next call.
 *
 * A frame that was cut short may have swallowed whole frames, so that one byte completes several:
 *
 *     for (bool found = xb_decoder_feed(&decoder, byte, &frame); found; found = xb_decoder_more(&decoder, &frame))
 *         handle(&frame);
 */
bool xb_decoder_feed(xb_decoder *decoder, uint8_t byte, xb_frame *frame);
bool xb_decoder_more(xb_decoder *decoder, xb_frame *frame);

/* Forgets a frame that has arrived in part; call it when the line was silent for a while (the virtual board: 50 ms). */
void xb_decoder_forget(xb_decoder *decoder);

#ifdef __cplusplus
}
#endif

#endif
