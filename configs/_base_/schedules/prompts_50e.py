"""Train only the prompts for 50 epochs with SGD and a cosine, on frame vectors of a frozen CLIP.

The papers of CoOp and CoCoOp give SGD at 2e-3 with a cosine. Our choice: 50 epochs, momentum,
weight decay, no warm-up, and batches of 64 clips (set in the file of the dataset).
"""

max_epochs = 50
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(optimizer=dict(type='SGD', lr=2e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
