"""Fine-tune a large network for 50 epochs: AdamW at 1e-4, 5 epochs of warm-up and a cosine.

All values of this schedule are our choice.
"""

max_epochs, warm_up = 50, 5
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05), clip_grad=dict(max_norm=5.0)
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
