/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h: a model as stored: a Hugging Face folder (sharded too; its weights in safetensors, or in the format of any plugin that reads files of their
 * ending), a .gguf file, or a Diapason checkpoint folder. Whatever the storage,
 * the reader sees Hugging Face names, shapes and values, and a config.json object: GGUF's names, its permuted llama q/k rows and its
 * shifted Gemma norms stay behind this door.
 */
#ifndef DPS_GRAPH_SOURCE_H
#define DPS_GRAPH_SOURCE_H

#include "base/json.h"
#include "base/quant.h"
#include "plugin/registry.h"

typedef struct DpsSource DpsSource;

/** Open. Errors name the path, what was found and what was expected. [any] */
DpsStatus dps_source_open (const DpsRegistry *reg, const char *path, DpsSource **out, DpsError *err);
void dps_source_close (DpsSource *src);

/** The configuration in Hugging Face keys (a GGUF's metadata translated, one layout: the classic one or transformers 5's). Borrowed. */
json_t *dps_source_config (const DpsSource *src);
const char *dps_source_path (const DpsSource *src);
/** The format its tensors are read through: safetensors, gguf, or that of another plugin. */
const DpsFormat *dps_source_format (const DpsSource *src);
/** 1 for a .gguf file (its tokenizer is in dps_source_meta), 0 for a folder. */
int dps_source_is_gguf (const DpsSource *src);
/** A GGUF's metadata, pointers valid until close; n 0 otherwise. */
const DpsMeta *const *dps_source_meta (const DpsSource *src, size_t *out_n);

size_t dps_source_count (const DpsSource *src);
/** Tensor i: its Hugging Face name, shape row-major; dtype as stored ("BF16", "Q4_K"). */
DpsStatus dps_source_info (const DpsSource *src, size_t i, DpsTensorInfo *out, DpsError *err);
/** Index of a tensor by Hugging Face name, or -1. */
int64_t dps_source_find (const DpsSource *src, const char *hf_name);
/** Elements [first, first+n) of tensor i in f32, in Hugging Face order and meaning. [any, one thread at a time per source] */
DpsStatus dps_source_read (DpsSource *src, size_t i, uint64_t first, uint64_t n, float *dst, DpsError *err);
/**
 * The form tensor i is stored in: GGUF's blocks, what bitsandbytes writes (one matrix in place of its several tensors, under the name of its
 * weight), or NONE for plain numbers. [any]
 */
DpsQuantForm dps_source_form (const DpsSource *src, size_t i);
/** 1 when tensor i only belongs to a quantised one: its absmax, its code book. [any] */
int dps_source_is_part (const DpsSource *src, size_t i);
/**
 * The codes of a quantised tensor, rows in Hugging Face's order, and the bytes of its parts: to NULL is left out. Sizes are those of
 * dps_quant_bytes. [any, one thread at a time per source]
 */
DpsStatus dps_source_codes (DpsSource *src, size_t i, void *codes, void *const parts[DPS_QPARTS], DpsError *err);
/**
 * Give a model whose output head is tied to its embedding a head of its own: dps_source_config says so, and "lm_head.weight" is found, with the
 * embedding's values. The tensors listed, and dps_source_digest, are as before. Nothing where head and embedding are two already. Errors: NOMEM. [init]
 */
DpsStatus dps_source_own_head (DpsSource *src, DpsError *err);
/** Let tensor i's file pages leave memory. */
void dps_source_release (DpsSource *src, size_t i);

/**
 * The base's identity: SHA-256 over (name, dtype, shape, stored bytes) of all tensors in name order, cached beside nothing: computed when
 * asked. What adapters are bound to. ~0.2 s for 250 MB.
 */
DpsStatus dps_source_digest (DpsSource *src, DpsDigest *out, DpsError *err);

#endif
