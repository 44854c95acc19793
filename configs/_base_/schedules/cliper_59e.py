"""CLIPER's two steps in one Runner: the text descriptors, then the image tower.

From the authors' code (muse1998/CLIPER, for RAF-DB): descriptors for 2 epochs by AdamW at 1e-2
without decay, then a new AdamW for the image tower, 57 epochs at 5e-6 with decay 0.1, a cosine
restarted every 10 epochs and stepped once an epoch; eps 1e-4 in both; batch 128 (in the views'
file). No clipping.
"""

custom_hooks = [
    dict(
        type='BAPHook',
        stages=[
            dict(name='text', epochs=2, trains=[r'cls_head\.tokens']),
            dict(name='image', epochs=57, trains=[r'backbone\.clip\.visual\.']),
        ],
    )
]
train_cfg = dict(type='StagedTrainLoop', val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-6, weight_decay=0.1, eps=1e-4),
    # 2000 times 5e-6 is the descriptors' rate of 1e-2.
    paramwise_cfg=dict(custom_keys={'cls_head.': dict(lr_mult=2000, decay_mult=0)}),
)
# A cosine that is restarted every 10 epochs of the second stage.
param_scheduler = [
    dict(type='CosineRestartLR', stage='image', periods=10, eta_min=0, by_epoch=True)
]
# Batches are of each rank: --auto-scale-lr multiplies the rate by ranks * batch_size / 128.
auto_scale_lr = dict(enable=False, base_batch_size=128)
