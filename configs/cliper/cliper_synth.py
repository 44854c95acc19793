"""CLIPER on the synthetic benchmark, over the small CLIP that ships with the package."""

_base_ = [
    '../_base_/models/cliper.py',
    '../_base_/datasets/synth.py',
    '../_base_/schedules/cliper_59e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(num_classes={{_base_.num_classes}}, temperature=None),
)
# The tower trains: a new view in each epoch, and nothing is encoded beforehand.
train_dataloader = dict(num_workers=2, dataset=dict(num_views=None))
val_dataloader = dict(num_workers=2)
test_dataloader = val_dataloader

epochs = dict(text=4, image=6)
custom_hooks = [
    dict(
        type='BAPHook',
        stages=[
            dict(name='text', epochs=epochs['text'], trains=[r'cls_head\.tokens']),
            dict(name='image', epochs=epochs['image'], trains=[r'backbone\.clip\.visual\.']),
        ],
    )
]
train_cfg = dict(max_epochs=sum(epochs.values()), val_interval=2)
param_scheduler = [
    dict(
        type='CosineRestartLR',
        begin=epochs['text'],
        end=sum(epochs.values()),
        periods=[epochs['image']],
        restart_weights=[1],
        eta_min=0,
        by_epoch=True,
    )
]
