"""IAL's schedule, from the authors' code: SGD at 1e-3 with decay 0.1, halved every 7 epochs.

Batch 40 is in the views' file. Ours: 70 epochs, after which the rate has halved ten times; the
code's default is 1000.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=70, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=0.1))
param_scheduler = [dict(type='StepLR', step_size=7, gamma=0.5, by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=40)
