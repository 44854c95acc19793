"""Train for no epoch: ``tools/train.py`` only tests the model, and reports it as epoch 0.

mmengine's Runner requires an optimizer, but this optimizer makes no step.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=0, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
