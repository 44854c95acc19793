"""Train M3DFEL for 300 epochs with AdamW, a warm-up of 20 epochs and a cosine.

The values are those of the authors' code (Tencent/TFace): AdamW at 5e-4 with weight decay 0.05,
batches of 256 clips (set in each config), a linear warm-up from 0 to 5e-4, and a cosine down to
5e-6 over all 300 epochs. Our choice: the warm-up multiplies the cosine. Until the end of the
warm-up, the factor of the cosine is within 1.1 % of 1.
"""

max_epochs, warm_up = 300, 20
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        end=warm_up,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min=5e-6,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=256)
