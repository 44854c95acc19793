"""A net whole, in 100 epochs: SGD at 0.01, a tenth of it from epoch 40 and again from 80.

Of Former-DFER's code (Zhao and Liu, ACM MM 2021): all of it, with batch 32 (in the views' file).
Ours for the other nets: one course for all, so that rows differ by the net alone.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='MultiStepLR', milestones=[40, 80], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=32)
