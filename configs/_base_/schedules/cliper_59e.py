"""Train CLIPER in two steps in one Runner: the text descriptors, and then the image tower.

The values are those of the authors' code for RAF-DB (muse1998/CLIPER). The descriptors train for 2
epochs with AdamW at 1e-2 without weight decay. Then a new AdamW trains the image tower for 57
epochs at 5e-6 with weight decay 0.1. The cosine of the second step restarts every 10 epochs and
changes the learning rate once an epoch. Both optimizers have eps 1e-4. Gradients are not clipped.
Batches have 128 clips (set in the file of the views).
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
    # The learning rate of the descriptors is 2000 * 5e-6 = 1e-2.
    paramwise_cfg=dict(custom_keys={'cls_head.': dict(lr_mult=2000, decay_mult=0)}),
)
# The cosine restarts after every 10 epochs of the second stage.
param_scheduler = [
    dict(type='CosineRestartLR', stage='image', periods=10, eta_min=0, by_epoch=True)
]
# batch_size is per rank. --auto-scale-lr multiplies the rate by ranks * batch_size / 128.
auto_scale_lr = dict(enable=False, base_batch_size=128)
