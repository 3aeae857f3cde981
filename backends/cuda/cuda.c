/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.c: the plugin: it loads where an NVIDIA driver and a GPU are, and refuses with a reason elsewhere; its synchronous calls. */
#include "cuda.h"

DpsHost cuda_host;
DpsQuantNames cuda_quants;

static struct DpsDevice devices[CUDA_MAX_DEVICES]; /* opened when they are first asked for: a context takes memory and a moment */
static int n_devices;

/* An op that prepare has checked; run_plan checks it with its operands. Algorithms are found by shape, at the first run (gemm.c). */
struct DpsPlan {
    uint32_t op;
};

int cuda_devices (void) { return n_devices; }

int cuda_should_stop (void) { return cuda_host.should_stop && cuda_host.should_stop (); }

DpsStatus cuda_device (int i, struct DpsDevice **out, DpsError *err)
{
    *out = &devices[i];
    return devices[i].context ? DPS_OK : cuda_device_open (&devices[i], i, err);
}

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    if (i >= (uint32_t)n_devices)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "cuda: this machine has %d GPUs", n_devices);
    struct DpsDevice *dev;
    DPS_TRY (cuda_device ((int)i, &dev, err));
    DpsDeviceInfo info = {.size = sizeof info, .device = dev, .name = dev->name, .detail = dev->detail, .memory_bytes = dev->memory_bytes};
    info.flags = dev->managed ? DPS_DEVICE_HOST_MEMORY : 0;
    dps_table_copy (out, out->size < sizeof info ? out->size : sizeof info, &info);
    return DPS_OK;
}

static DpsStatus alloc (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    return cuda_alloc (dev, CUDA_KIND_DEFAULT, bytes, out, out_host, err);
}

static DpsStatus copy (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    DPS_TRY (cuda_queue_copy (&dev->own, from, to, err));
    return cuda_queue_sync (&dev->own, err);
}

/* What was queued before an error must have ended when the caller sees its buffers again. */
static DpsStatus run_and_wait (struct DpsDevice *dev, const DpsOp *op, DpsError *err)
{
    DpsStatus st = cuda_queue_run (&dev->own, op, err);
    if (st != DPS_OK) {
        cuda_queue_sync (&dev->own, NULL);
        return st;
    }
    return cuda_queue_sync (&dev->own, err);
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    return flags & DPS_RUN_DRY ? cuda_accepts (dev, op, err) : run_and_wait (dev, op, err);
}

static DpsStatus prepare (struct DpsDevice *dev, const DpsOp *op, struct DpsPlan **out, DpsError *err)
{
    DPS_TRY (cuda_enter (dev, err));
    DPS_TRY (cuda_accepts (dev, op, err));
    struct DpsPlan *plan = dps_calloc (1, sizeof *plan);
    if (!plan)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for a plan", dev->name);
    plan->op = op->id;
    *out = plan;
    return DPS_OK;
}

static uint64_t plan_info (struct DpsDevice *dev, const struct DpsPlan *plan)
{
    (void)dev, (void)plan;
    return 0; /* scratch is the queue's, kept between calls */
}

static DpsStatus run_plan (struct DpsDevice *dev, struct DpsPlan *plan, const DpsOp *op, DpsError *err)
{
    if (plan->op != op->id)
        return dps_fail (err, DPS_ERR_INVALID, "%s: a plan of one op is run with another", dev->name);
    return run_and_wait (dev, op, err);
}

static void plan_free (struct DpsDevice *dev, struct DpsPlan *plan)
{
    (void)dev;
    dps_free (plan);
}

static uint32_t determinism (struct DpsDevice *dev) { return dev->gemm ? DPS_DETERMINISM_THREADS : DPS_DETERMINISM_BATCH; }

static const DpsBackend backend = {
    .size = sizeof (DpsBackend),
    .enumerate = enumerate,
    .alloc = alloc,
    .free = cuda_free,
    .copy = copy,
    .run = run,
    .prepare = prepare,
    .plan_info = plan_info,
    .run_plan = run_plan,
    .plan_free = plan_free,
    .mem_info = cuda_mem_info,
    .determinism = determinism,
};

static void deinit (void)
{
    for (; n_devices > 0; n_devices--)
        if (devices[n_devices - 1].context)
            cuda_device_close (&devices[n_devices - 1]);
}

static DpsStatus init (const DpsHost *from, const char *path, DpsError *err)
{
    (void)path;
    dps_table_copy (&cuda_host, sizeof cuda_host, from);
    if (dps_quant_names (cuda_host.intern, &cuda_quants))
        return dps_fail (err, DPS_ERR_LIMIT, "cuda: no room for the quantised dtypes");
    DPS_TRY (dps_launch_init (cuda_host.intern, err));
    DPS_TRY (cuda_api_open (err));
    CuResult r = cuda_api.cu.device_count (&n_devices);
    if (r != CU_OK || n_devices < 1)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "cuda: the driver lists no GPU (%u). Hint: nvidia-smi -L; is CUDA_VISIBLE_DEVICES empty?",
                         (unsigned)r);
    n_devices = n_devices < CUDA_MAX_DEVICES ? n_devices : CUDA_MAX_DEVICES;
    return DPS_OK;
}

static const void *get_interface (DpsStr id)
{
    static const struct {
        const char *id;
        const void *table;
    } tables[] = {
        {DPS_BACKEND_ID, &backend}, {DPS_STREAM_ID, &cuda_queues}, {DPS_MEMORY_ID, &cuda_memory}, {DPS_SEGMENT_ID, &cuda_recorder}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (dps_str_is (id, tables[i].id))
            return tables[i].table;
    return cuda_api.has_nccl && dps_str_is (id, DPS_COLLECTIVE_ID) ? &cuda_collective : NULL;
}

DPS_PLUGIN (init, deinit, get_interface);
