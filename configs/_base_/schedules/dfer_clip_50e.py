"""DFER-CLIP's schedule: all of it trains at once, each part at a rate of its own.

From the paper: SGD with momentum 0.9 and weight decay 1e-4; 1e-2 for the temporal transformer, 1e-3
for the prompts, 1e-5 for the image tower, each x 0.1 after 30 and 40 of 50 epochs; batch 48 (in
the views' file).
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys={'backbone.': dict(lr_mult=1e-3), 'cls_head.': dict(lr_mult=1e-1)}
    ),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[30, 40], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=48)
