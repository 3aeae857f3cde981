/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_gguf_model.c: any bytes as a GGUF model: its metadata becomes a decoder, and a tokenizer that works. fuzz-sources: formats/gguf/*.c */
#include <sys/mman.h>

#include "diapason/diapason.h"
#include "fuzz_use.h"
#include "graph/gguf_names.h"
#include "graph/model.h"

extern const DpsPluginEntry dps_plugin_entry;

static void read_model (const DpsMeta *const *meta, size_t n)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *config = NULL;
    DpsModel m = {0};
    if (dps__gguf_config (meta, n, "fuzz", 32, 1, &config, &err) != DPS_OK) {
        require (!config && err.msg[0]);
        return;
    }
    if (dps_model_init (&m, config, &err) == DPS_OK)
        dps_model_free (&m);
    else
        require (err.msg[0] != '\0');
    json_decref (config);
}

static void read_tokenizer (const DpsMeta *const *meta, size_t n)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTokenizer *tok = NULL;
    DpsStatus st = dps_tokenizer_from_meta (meta, n, "fuzz", &tok, &err);
    require (st == DPS_OK || (!tok && err.msg[0]));
    if (tok)
        fuzz_use (tok);
    dps_tokenizer_free (tok);
}

static void use_file (const DpsFormat *format, struct DpsFormatFile *f)
{
    enum { MAX = 4096 };
    static DpsMeta meta[MAX];
    static const DpsMeta *list[MAX];
    DpsError err = DPS_ERROR_INIT;
    DpsGgufName name;
    uint64_t n_tensors, n = 0;
    require (format->info (f, &n_tensors, &n, &err) == DPS_OK);
    n = n < MAX ? n : MAX;
    for (uint64_t i = 0; i < n; i++) {
        meta[i] = (DpsMeta){.size = sizeof *meta};
        list[i] = &meta[i];
        require (format->meta (f, i, &meta[i], &err) == DPS_OK);
    }
    for (uint64_t i = 0; i < n_tensors; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        require (format->tensor_info (f, i, &t, &err) == DPS_OK);
        dps__gguf_name (i % 2 ? "llama" : "gemma3", t.name, &name);
        require (memchr (name.hf, '\0', sizeof name.hf) != NULL);
    }
    read_model (list, n);
    read_tokenizer (list, n);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct DpsFormatFile *f = NULL;
    char path[64];
    const DpsFormat *format = dps_plugin_entry.get_interface (dps_str (DPS_FORMAT_ID));
    if (fd < 0)
        fd = memfd_create ("fuzz", 0);
    require (fd >= 0 && ftruncate (fd, 0) == 0 && pwrite (fd, data, size, 0) == (ssize_t)size);
    snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
    if (format->open (dps_str (path), &f, NULL) == DPS_OK) {
        use_file (format, f);
        format->close (f);
    }
    return 0;
}
