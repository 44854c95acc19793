"""Train adapters for 30 epochs: AdamW at 2e-4, 3 epochs of warm-up and a cosine.

All values of this schedule are our choice, because those of FineCLIPER could not be read. An
adapter starts as the identity and has few parameters, so its rate is larger than the 1e-5 that
full fine-tuning of CLIP allows, and the warm-up is short. The scalars that weigh the levels have
ten times the rate, because they would otherwise stay near their start, and the log shows their
rate as `lr`: `base_lr` is that of the adapters. Weight decay draws the scalars to zero, which means
equal weights. A batch of 8 clips of 16 frames, with their pictures of the face parts, takes 5.4 GB
in ViT-B/16 with checkpointing, in float32 on a CPU (docs/benchmarks.md). The gradients of 4 batches
are averaged, so a step has 32 clips.
"""

max_epochs, warm_up = 30, 3
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'level_scalars': dict(lr_mult=10)}),
    clip_grad=dict(max_norm=5.0),
    accumulative_counts=4,
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        end=warm_up,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        begin=warm_up,
        end=max_epochs,
        T_max=max_epochs - warm_up,
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
