/* SPDX-License-Identifier: MIT */
#include "xb_frame.h"

#include <string.h>

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | (uint16_t)at[1] << 8); }

static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }

static void put16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *at, uint32_t value) {
    put16(at, (uint16_t)value);
    put16(at + 2, (uint16_t)(value >> 16));
}

uint16_t xb_crc16(const uint8_t *data, size_t size) {
    uint16_t crc = 0xFFFF;
    for (size_t i = 0; i < size; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)data[i] << 8);
        for (int bit = 0; bit < 8; bit++) {
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
        }
    }
    return crc;
}

uint32_t xb_crc32(const uint8_t *data, size_t size) {
    /* one entry for each half byte: 64 bytes of table, four times as fast as bit by bit */
    static const uint32_t half[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ half[crc & 15];
        crc = crc >> 4 ^ half[crc & 15];
    }
    return ~crc;
}

size_t xb_frame_encode(const xb_frame *frame, uint8_t *out, size_t room) {
    if (room < XB_FRAME_BYTES || frame->size > room - XB_FRAME_BYTES) {
        return 0;
    }
    if (frame->size) {
        memmove(out + XB_HEADER_BYTES, frame->payload, frame->size);
    }
    out[0] = 'X';
    out[1] = 'B';
    out[2] = XB_VERSION;
    out[3] = frame->opcode;
    put16(out + 4, frame->sequence);
    put16(out + 6, frame->status);
    put32(out + 8, frame->size);
    put16(out + 12, xb_crc16(out, 12));
    const size_t end = XB_HEADER_BYTES + (size_t)frame->size;
    put32(out + end, xb_crc32(out, end));
    return end + XB_TAIL_BYTES;
}

void xb_decoder_init(xb_decoder *decoder, uint8_t *buffer, uint32_t room) {
    memset(decoder, 0, sizeof *decoder);
    decoder->buffer = buffer;
    decoder->room = room;
    decoder->enough = 1;
}

/* Drops bytes from the front. */
static void drop(xb_decoder *decoder, uint32_t count) {
    decoder->held -= count;
    memmove(decoder->buffer, decoder->buffer + count, decoder->held);
}

/* Drops all that can be no beginning of a frame, `from` bytes at least. */
static void drop_noise(xb_decoder *decoder, uint32_t from) {
    uint32_t at = from;
    const uint8_t *data = decoder->buffer;
    while (at < decoder->held && (data[at] != 'X' || (at + 1 < decoder->held && data[at + 1] != 'B'))) {
        at++;
    }
    if (at) {
        decoder->dropped += at;
        drop(decoder, at);
    }
}

/* Whether the header at the front is good. */
static bool is_header(const xb_decoder *decoder) {
    const uint8_t *head = decoder->buffer;
    return get16(head + 12) == xb_crc16(head, 12) && head[2] == XB_VERSION &&
           get32(head + 8) <= decoder->room - XB_FRAME_BYTES;
}

bool xb_decoder_more(xb_decoder *decoder, xb_frame *frame) {
    drop(decoder, decoder->done);
    decoder->done = 0;
    for (uint32_t wrong = 0;; wrong = 1) {
        drop_noise(decoder, wrong);
        const uint8_t *head = decoder->buffer;
        decoder->enough = decoder->held < 2 ? decoder->held + 1 : XB_HEADER_BYTES;
        if (decoder->held < XB_HEADER_BYTES) {
            return false;
        }
        if (!is_header(decoder)) {
            continue;
        }
        const uint32_t end = XB_HEADER_BYTES + get32(head + 8);
        decoder->enough = end + XB_TAIL_BYTES;
        if (decoder->held < decoder->enough) {
            return false;
        }
        if (get32(head + end) != xb_crc32(head, end)) {
            continue;
        }
        frame->opcode = head[3];
        frame->sequence = get16(head + 4);
        frame->status = get16(head + 6);
        frame->payload = head + XB_HEADER_BYTES;
        frame->size = end - XB_HEADER_BYTES;
        decoder->done = end + XB_TAIL_BYTES;
        return true;
    }
}

bool xb_decoder_feed(xb_decoder *decoder, uint8_t byte, xb_frame *frame) {
    if (decoder->room < XB_FRAME_BYTES) {
        return false;
    }
    if (decoder->done) { /* the caller did not ask for more; then there was none, or it is found now */
        drop(decoder, decoder->done);
        decoder->done = 0;
        decoder->enough = 1;
    }
    if (decoder->held == decoder->room) { /* only where the caller stopped asking for more */
        decoder->dropped++;
        drop(decoder, 1);
    }
    decoder->buffer[decoder->held++] = byte;
    return decoder->held >= decoder->enough && xb_decoder_more(decoder, frame);
}

void xb_decoder_forget(xb_decoder *decoder) {
    decoder->dropped += decoder->held - decoder->done;
    decoder->held = decoder->done = 0;
    decoder->enough = 1;
}
