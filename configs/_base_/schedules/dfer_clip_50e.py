"""Train all parts of DFER-CLIP together for 50 epochs, each part with its own learning rate.

All values are the paper's: SGD with momentum 0.9 and weight decay 1e-4. The learning rate is 1e-2
for the temporal transformer, 1e-3 for the prompts and 1e-5 for the image tower. Each is multiplied
by 0.1 after epochs 30 and 40. Batches have 48 clips (set in the file of the views).
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
