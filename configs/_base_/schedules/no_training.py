"""Skip training: ``tools/train.py`` only tests the model, and reports the result as epoch 0.

mmengine's Runner requires an optimizer, which makes no step here.
"""

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=0, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
