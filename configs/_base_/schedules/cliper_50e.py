"""CLIPER's two steps in one Runner: the text descriptors, then the image tower.

From the paper: the steps, and what each trains. Ours: their epochs, the rates (1e-2 for the
descriptors, 1e-5 for the tower, DFER-CLIP's), the cosine restarted at the second step.
"""

epochs = dict(text=20, image=30)
stages = [
    dict(name='text', epochs=epochs['text'], trains=[r'cls_head\.tokens']),
    dict(name='image', epochs=epochs['image'], trains=[r'backbone\.clip\.visual\.']),
]
custom_hooks = [dict(type='BAPHook', stages=stages)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=sum(epochs.values()), val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'backbone.': dict(lr_mult=1e-3)}),
)
param_scheduler = [
    dict(
        type='CosineRestartLR',
        periods=list(epochs.values()),
        restart_weights=[1, 1],
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
