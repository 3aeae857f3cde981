/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The quantised matrices of the parity set on every backend: what its ops take for their numbers, every bitsandbytes form and every block type of
 * GGUF. As a table of `embed`, every row apart; as the matrix of `linear`, by the rows of the identity.
 */
#include "parity_kit.h"

static DpsError err = DPS_ERROR_INIT;
#include "quant_parity.h"

static DpsRegistry *reg;
static DpsExec ex;

static DpsView view_of (uint32_t dtype, const int64_t *shape, void *host) { return dps_view (dtype, 2, shape, host); }

/* Rows of the table, the last first. */
static float *embedded (const DpsView *w)
{
    int64_t rows = w->shape[0], cols = w->shape[1];
    int32_t *ids = calloc ((size_t)rows, sizeof *ids);
    float *turned = calloc ((size_t)(rows * cols), sizeof *turned), *y = calloc ((size_t)(rows * cols), sizeof *y);
    for (int64_t i = 0; i < rows; i++)
        ids[i] = (int32_t)(rows - 1 - i);
    DpsView list = dps_view (DPS_DTYPE_I32, 1, &rows, ids), out = view_of (DPS_DTYPE_F32, w->shape, turned);
    CHECK_OK (dps_exec_op (&ex, DPS_OP_embed, (DpsOp){DPS_IN (w, &list), DPS_OUT (&out), DPS_ATTRS ({.f = 1})}, &err));
    for (int64_t i = 0; i < rows; i++)
        memcpy (y + i * cols, turned + (rows - 1 - i) * cols, (size_t)cols * sizeof *y);
    free (ids);
    free (turned);
    return y;
}

/* I·Wᵀ, turned. */
static float *multiplied (const DpsView *w)
{
    int64_t rows = w->shape[0], cols = w->shape[1], one[2] = {cols, cols}, wide[2] = {cols, rows};
    float *identity = calloc ((size_t)(cols * cols), sizeof *identity), *turned = calloc ((size_t)(rows * cols), sizeof *turned),
          *y = calloc ((size_t)(rows * cols), sizeof *y);
    for (int64_t i = 0; i < cols; i++)
        identity[i * (cols + 1)] = 1;
    DpsView x = view_of (DPS_DTYPE_F32, one, identity), out = view_of (DPS_DTYPE_F32, wide, turned);
    CHECK_OK (dps_exec_op (&ex, DPS_OP_linear, (DpsOp){DPS_IN (&x, w, NULL), DPS_OUT (&out)}, &err));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < cols; k++)
            y[i * cols + k] = turned[k * rows + i];
    free (identity);
    free (turned);
    return y;
}

/* cpu leaves tables in blocks to ref. */
static void check_numbers (const char *what, const DpsView *w, const float *want, int64_t block)
{
    float *(*const ways[]) (const DpsView *) = {embedded, multiplied};
    int64_t n = w->shape[0] * w->shape[1];
    for (int way = !strcmp (ex.devices[0].info.name, "cpu"); way < 2; way++) {
        float *got = ways[way](w);
        for (int64_t first = 0; first < n; first += block)
            check_block (what, got + first, want + first, n - first < block ? n - first : block, 0);
        free (got);
    }
}

static void check_bitsandbytes (const char *device)
{
    StFile f;
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < N_ENTRIES; i++) {
            char label[96];
            Quantised *q = load_entry (&ex.quants, &f, sizes[s], &entries[i]);
            float *room = calloc ((size_t)(q->shape[0] * q->shape[1]), sizeof *room);
            snprintf (label, sizeof label, "%s.%s on %s", sizes[s], entries[i].base, device);
            check_numbers (label, &q->view, want_values (&f, sizes[s], &entries[i], room, q->shape[0] * q->shape[1]),
                           q->form.block ? q->form.block : q->shape[1]);
            free (room);
            quantised_free (q);
        }
    st_close (&f);
}

/* Random blocks, and 7 types also as a quantiser leaves them. */
static void check_gguf (const char *device)
{
    static const char *const sides[][2] = {{"blocks", "dequantised"}, {"quantised", "input_dequantised"}};
    StFile f;
    int n_checked = 0;
    st_open (&f, parity_path ("quant/gguf.safetensors"));
    for (int type = 0; type < DPS_QUANT_TYPES; type++)
        for (int s = 0; s < 2; s++) {
            StTensor bytes, values;
            char name[64], label[96];
            const char *of = dps_quant_name ((DpsQuantType)type);
            snprintf (name, sizeof name, "%s.%s", of, sides[s][0]);
            if (!st_find (&f, name, &bytes))
                continue;
            snprintf (label, sizeof label, "%s on %s", name, device);
            snprintf (name, sizeof name, "%s.%s", of, sides[s][1]);
            values = st_get (&f, name);
            float *want = malloc (values.bytes);
            memcpy (want, values.data, values.bytes);
            DpsView w = view_of (ex.quants.dtype[type], values.shape, (void *)bytes.data);
            check_numbers (label, &w, want, dps_block_type_named (dps_str (of))->elements);
            free (want);
            n_checked++;
        }
    CU_ASSERT_EQUAL (n_checked, 11 + 5);
    st_close (&f);
}

static void test_every_block (void)
{
    EACH_DEVICE (device) {
        CHECK_OK (dps_registry_open (NULL, &reg, &err));
        open_device (&ex, reg, device);
        check_bitsandbytes (device);
        check_gguf (device);
        dps_exec_close (&ex);
        dps_registry_close (reg);
    }
}

CHECK_MAIN ("parity: blocks", T (test_every_block))
