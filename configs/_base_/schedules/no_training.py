"""No epoch: ``tools/train.py`` tests what was never trained, and reports it as epoch 0.

The optimizer is what mmengine's Runner asks for; it makes no step.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=0, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
