"""Train a network from scratch on the synthetic benchmark, for 4 epochs in batches of 16 clips.

All values are our choice, and are the same for every network: AdamW at 5e-4 with a cosine, in
bfloat16. A network with 2 to 3 billion multiplications for each clip (ResNet18 on 16 frames of 64
pixels, in 2D or 3D) trains for 10 to 14 minutes on one CPU core with bfloat16 instructions. This
training is too short to exceed the accuracy of guessing, so the results compare the cost of
networks and not their accuracy. To train all networks for longer, raise ``max_epochs`` in this
file.
"""

max_epochs = 4
# Validation runs only once, because 700 test clips take a third of the time of an epoch.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
