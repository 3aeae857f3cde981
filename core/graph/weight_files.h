/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weight_files.h: which files of a model folder are its weights when neither safetensors nor a GGUF holds them: a plugin's format does, whose ending
 * they have. Internal to the stages.
 */
#ifndef DPS_GRAPH_WEIGHT_FILES_H
#define DPS_GRAPH_WEIGHT_FILES_H

#include "plugin/registry.h"

/** How many files a model's weights may lie in. */
enum { DPS_WEIGHT_FILES_MAX = 1024 };

typedef struct DpsWeightFiles {
    const DpsFormat *format; /* NULL: no plugin's format has a file there */
    char **names;            /* [n] plain file names, in their order */
    size_t n;
} DpsWeightFiles;

/** The length of the ending of `file` that is one of the format's ("w.npy": 4), 0 when it has none of them. [any] */
size_t dps__format_ending (const DpsFormat *format, const char *file);

/**
 * Every file of `folder` with an ending of one format; of several formats that of the plugin that is surest of its first file. safetensors and gguf, which
 * have rules of their own, are not asked. Close it whatever the result. Errors: INVALID (two plugins are equally sure), LIMIT, IO, NOMEM. [any]
 */
DpsStatus dps__weight_files_find (const DpsRegistry *reg, const char *folder, DpsWeightFiles *out, DpsError *err);
void dps__weight_files_close (DpsWeightFiles *files);

#endif
