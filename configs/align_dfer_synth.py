"""Align-DFER on the synthetic benchmark, over the small CLIP that ships with the package."""

_base_ = ['_base_/datasets/synth_encoded.py', '_base_/default_runtime.py']

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='synth-clip'),
    neck=dict(type='JAS', num_frames=16, num_sentences=16),
    cls_head=dict(type='MATHead', num_classes=7, num_sentences=16, num_tokens=64),
)

# BAP: three stages in one Runner, the rates restarted at each.
epochs = dict(text=5, video=24, joint=12)
stages = [
    dict(name='text', epochs=epochs['text'], trains=[r'cls_head\.tokens', r'neck\.text_encoder\.']),
    dict(
        name='video',
        epochs=epochs['video'],
        trains=[r'neck\.image_encoder\.'],
        grows_at=[0, 4, 8, 12],
    ),
    dict(
        name='joint',
        epochs=epochs['joint'],
        trains=[r'cls_head\.tokens', r'neck\.joint_encoder\.'],
        grows_at=[0, 4],
    ),
]
custom_hooks = [dict(type='BAPHook', stages=stages)]
default_hooks = dict(report=dict(baselines=True))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=sum(epochs.values()), val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(
        type='CosineRestartLR',
        periods=list(epochs.values()),
        restart_weights=[1, 1, 1],
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
