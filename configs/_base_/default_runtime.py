"""Define what all configs share: the default scope, the hooks, the ranks, the logs and the seed.

``default_scope`` and ``custom_imports`` make the classes of this package and of MMAction2 known by
name, in MMAction2's own tools too. A config that is not based on this file must set both.
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

# On a machine without an accelerator, the ranks use gloo and ignore this backend.
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# device_ids=None allows ranks on the CPU. find_unused_parameters=True is required because each
# stage of training leaves some parameters unused.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True
)

log_processor = dict(type='RankMeanLogProcessor', window_size=20, by_epoch=True)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='ActionVisualizer', vis_backends=vis_backends)
log_level = 'INFO'

resume = False

# Runs on the CPU are bit-identical with these settings. On a GPU, `deterministic=True` makes torch
# refuse operations that are not deterministic, and makes training slower.
randomness = dict(seed=0, diff_rank_seed=False, deterministic=False)
