"""Train IAL for 70 epochs with SGD at 1e-3 and weight decay 0.1, halved every 7 epochs.

The values are those of the authors' code. Batches have 40 clips (set in the file of the views). Our
choice: 70 epochs, after which the learning rate has been halved ten times. The default of the
authors' code is 1000 epochs.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=70, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=0.1))
param_scheduler = [dict(type='StepLR', step_size=7, gamma=0.5, by_epoch=True)]
auto_scale_lr = dict(enable=False, base_batch_size=40)
