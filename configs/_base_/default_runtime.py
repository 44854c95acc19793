"""How a run goes, whatever it trains: scope, hooks, ranks, logs.

``default_scope`` and ``custom_imports`` are what makes our parts and MMAction2's known by name, in
MMAction2's own tools too. A config of yours that is not based on this file needs these two lines.
"""

default_scope = 'mmaction'
custom_imports = dict(imports=['mmdfer'], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2, save_best='WAR', rule='greater'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    sync_buffers=dict(type='SyncBuffersHook'),
    setup=dict(type='SetupHook'),
    accumulation=dict(type='AccumulationHook'),
    class_names=dict(type='ClassNamesHook'),
    report=dict(type='ReportHook'),
    unreadable=dict(type='UnreadableHook'),
)

# Without an accelerator the ranks join over gloo, whatever the backend here.
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# device_ids=None lets the ranks run on the CPU; each stage leaves some parameters unused.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True
)

log_processor = dict(type='RankMeanLogProcessor', window_size=20, by_epoch=True)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='ActionVisualizer', vis_backends=vis_backends)
log_level = 'INFO'

resume = False

# Bit-identical runs on the CPU. On a GPU, `deterministic=True` has torch refuse operations that
# are not, at a cost in speed.
randomness = dict(seed=0, diff_rank_seed=False, deterministic=False)
