/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.h: a record of the calls that backends were given, without the weights, so that a vendor can run them again (replay.h).
 *
 * The file is lines of JSON, at most 64 KiB each, in the order of the calls. Numbers are decimal integers unless said. The first line is
 *
 *   {"diapason_record":1,"version":"0.1.0","contents":"seeds","ids":"synthetic"}
 *
 * contents "seeds": no number that is not an integer is recorded. Of each range of floating numbers that a call reads, and that no call before it
 * wrote, the file has a seed, the root mean square, and whether all are zero or none is negative; replay draws numbers from these. The seed is a hash of
 * the bytes under a key that was drawn for this record and is not kept: ranges with the same bytes have the same seed, and no guess of the bytes can
 * be confirmed. Integer operands steer the arithmetic (rows, offsets, segments, dropout keys) and are recorded as they are. ids "synthetic": but
 * token ids, which are data, are left out: replay draws ids of the vocabulary from the seed. "recorded": they are in the file.
 *
 *   {"device":0,"name":"cpu","plugin":"dps.cpu","sha256":"…","detail":"…"}   before its first call
 *   {"alloc":7,"bytes":4096}                    buffer 7, numbered from 1; {"free":7}
 *   {"case":3,"op":"linear","in":[V,…],"out":[V,…]}   a kind of call, numbered from 0; V: null, or
 *                                               {"t":"bf16","s":[4,80]}, with "stride":[…]; "pack":0|1, its orientation; "parts":[{"role","t","bytes"}…]
 *   {"data":5,"at":0,"bytes":64,"hex":"…"}      integers: a piece of data 5, numbered from 0, which has "bytes" in all; pieces in order
 *   {"call":12,"case":3,"on":0,"at":[P,…],"attrs":[…],"fill":[F,…]}
 *                                               before the call. P, for each operand, inputs first: null; [buffer, byte offset]; [0,0], memory of the host.
 *                                               attrs: the 64 bits of each DpsScalar as an integer. F: [operand, "data", 5]; or
 *                                               [operand, "zero"|"normal"|"positive"|"nan", seed, rms as "%.4g"]; [operand, "tokens", seed, vocabulary].
 *                                               An operand without F is what the calls before it, or an earlier F, left there
 *   {"failed":12,"status":"DEVICE","message":"…"}   after a call that failed
 *   {"end":"closed"|"limit","calls":13}         the last line. limit: the size asked for was reached and the run went on without
 *
 * A record without its last line is of a process that died in the call of the last line there is. Packing of weights is not recorded: replay packs
 * as its backend does. Queues are not recorded: exec waits for each call. Nor are plans: a recorded device offers none.
 */
#ifndef DPS_EXEC_TRACE_H
#define DPS_EXEC_TRACE_H

#include "exec/exec.h"

enum { DPS_TRACE_VERSION = 1, DPS_TRACE_LINE = 1 << 16, DPS_TRACE_PIECE = 1 << 14 /* bytes of data on a line */ };

typedef struct DpsTraceOptions {
    const char *path;
    uint64_t limit; /* bytes of the file at most; 0: 256 MiB */
    int ids;        /* record token ids as they are */
} DpsTraceOptions;

/** From now on every device that is opened is recorded. Errors: IO, NOMEM. [init] */
DpsStatus dps_trace_begin (const DpsTraceOptions *o, DpsError *err);
/** Close the file, if there is one. Errors: IO, what a write met earlier: the run went on without. [init] */
DpsStatus dps_trace_end (DpsError *err);

/** Record the calls of a device (layer.h), if a record was begun. Errors: NOMEM. [init] */
DpsStatus dps__trace_add (DpsExecDevice *d, int index, DpsError *err);

/** Number `i` of a range drawn from a seed: uniform in ±√3, mean square 1. Pure. */
static inline double dps__trace_draw (uint64_t seed, uint64_t i)
{
    uint64_t x = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return ((double)(x >> 11) * 0x1p-52 - 1) * 1.7320508075688772;
}

#endif
