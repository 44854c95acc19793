"""Train a whole network for 100 epochs with SGD at 0.01, multiplied by 0.1 after epochs 40 and 80.

All values are those of Former-DFER's code (Zhao and Liu, ACM MM 2021), also the batches of 32 clips
(set in the file of the views). Our choice for the other networks: one schedule for all of them, so
that their results differ only because of the network.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='MultiStepLR', milestones=[40, 80], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=32)
