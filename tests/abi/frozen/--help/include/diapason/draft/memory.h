/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h: what lies in a backend's buffers: its extensions `dps.memory/1` (kinds of memory), `dps.quant/1` (block formats) and
 * `dps.dlpack/1` (tensors of other libraries). Each is optional. Since: ABI 0.1.
 */
#ifndef DIAPASON_MEMORY_H
#define DIAPASON_MEMORY_H

#include "diapason/backend.h"

#define DPS_MEMORY_ID "dps.memory/1"
#define DPS_QUANT_ID  "dps.quant/1"
#define DPS_DLPACK_ID "dps.dlpack/1"

enum {
    DPS_MEMORY_HOST_VISIBLE = 1, /* DpsView.host is set */
    DPS_MEMORY_PINNED = 2,       /* host memory the device copies from without a stop in between */
    DPS_MEMORY_UNIFIED = 4       /* one address for host and device */
};

/** One kind of memory of a device. `size` set by the caller. */
typedef struct DpsMemoryKind {
    size_t size;
    const char *name;                 /* "device", "pinned": static for the process */
    uint32_t flags;                   /* DPS_MEMORY_* */
    uint32_t alignment;               /* bytes, a power of two, ≥ 64 */
    uint64_t free_bytes, total_bytes; /* now; 0: unknown */
} DpsMemoryKind;

/** `dps.memory/1`: memory beyond DpsBackend.alloc, which gives kind 0. What alloc and import give is freed with DpsBackend.free. */
typedef struct DpsMemory {
    size_t size;
    /** Kind i of the device, or NOT_FOUND past the last. [any] */
    DpsStatus (*kind) (struct DpsDevice *dev, uint32_t i, DpsMemoryKind *out, DpsError *err);
    /** As DpsBackend.alloc, of one kind. Errors: NOMEM, INVALID (no such kind). [device-serial] */
    DpsStatus (*alloc) (struct DpsDevice *dev, uint32_t kind, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err);
    /**
     * Use host memory of the caller as a buffer, in place. It stays the caller's and must outlive the buffer; read_only 1: a mapped file.
     * Errors: UNSUPPORTED, INVALID (alignment: the message says which it needs). NULL slot: never. [device-serial]
     */
    DpsStatus (*import) (struct DpsDevice *dev, void *host, uint64_t bytes, uint32_t read_only, struct DpsBuffer **out, DpsError *err);
    /** Give back to the system what the backend keeps for reuse. NULL slot: it keeps nothing. [device-serial] */
    void (*trim) (struct DpsDevice *dev);
} DpsMemory;

/** A block format a backend computes with. `size` set by the caller. */
typedef struct DpsQuantFormat {
    size_t size;
    const char *name;        /* the file formats' spelling: "Q4_K", "NF4"; static for the process */
    uint32_t dtype;          /* its interned number, what DpsView.dtype says */
    uint32_t block_elements; /* along K */
    uint32_t block_bytes;    /* as in the file; companions in DpsView.parts not counted */
    uint32_t flags;          /* reserved, 0 */
} DpsQuantFormat;

/**
 * `dps.quant/1`: frozen weights W (O,K) in the block format they came in. linear, linear_dx, embed and token_logprobs take such a W as a
 * view of that dtype, in the file's layout (DPS_LAYOUT_ROW_MAJOR over blocks) or in the repacked one.
 */
typedef struct DpsQuant {
    size_t size;
    /** Format i, or NOT_FOUND past the last. [any] */
    DpsStatus (*format) (struct DpsDevice *dev, uint32_t i, DpsQuantFormat *out, DpsError *err);
    /**
     * Bytes and layout number (≥ DPS_LAYOUT_PACKED) of W repacked for `orientation` (DPS_PACK_*). Errors: UNSUPPORTED: use the file's layout.
     * NULL slot: always that. Pure. [any]
     */
    DpsStatus (*query) (struct DpsDevice *dev, uint32_t dtype, int64_t out_features, int64_t in_features, uint32_t orientation,
                        uint64_t *out_bytes, uint32_t *out_layout, DpsError *err);
    /** Rows [row, row + rows(from)) of the file's blocks, in host memory, into `to`; pieces of 64 rows as DpsPack.pack. Errors: as there. [device-serial] */
    DpsStatus (*repack) (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err);
    /** A view of any of its formats and layouts into f32 or bf16 of the same shape: the oracle of its products. Errors: SHAPE, DTYPE, DEVICE. [device-serial] */
    DpsStatus (*dequantize) (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err);
} DpsQuant;

struct DLManagedTensorVersioned; /* dlpack.h, version 1: not included here, so that nobody needs it who does not use it */
struct DpsImported;

/** `dps.dlpack/1`: exchange at the edge of the program only; nothing inside it passes DLPack tensors. */
typedef struct DpsDlpack {
    size_t size;
    /**
     * A view as a managed tensor, which shares its bytes. Owns: *out, freed by its own deleter; the buffer must outlive it.
     * Errors: UNSUPPORTED (a dtype or layout that DLPack does not have), NOMEM. [device-serial]
     */
    DpsStatus (*to) (struct DpsDevice *dev, const DpsView *view, struct DLManagedTensorVersioned **out, DpsError *err);
    /**
     * A managed tensor of this device's kind, in place. Takes over `tensor` when it succeeds, and calls its deleter in release.
     * Errors: UNSUPPORTED (other device, dtype, version; read-only), VERSION. [device-serial]
     */
    DpsStatus (*from) (struct DpsDevice *dev, struct DLManagedTensorVersioned *tensor, struct DpsImported **out, DpsError *err);
    /** The imported tensor's view, valid until release. [any] */
    const DpsView *(*view) (const struct DpsImported *t);
    void (*release) (struct DpsImported *t); /* NULL is fine. [device-serial] */
} DpsDlpack;

#endif
