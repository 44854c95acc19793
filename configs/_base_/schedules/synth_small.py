"""The small budget of the nets on the synthetic benchmark: 4 epochs of batch 16, from nothing.

Ours, all of it, and the same for every net: AdamW at 5e-4 with a cosine, in bfloat16. Nets of 2 to
3 G multiplications a clip (ResNet18 on 16 frames of 64, in 2D or 3D) take 10 to 14 minutes
on one core that has bfloat16 products. It is too small to bring a net off chance, so its rows
compare cost, not methods. More of it is ``max_epochs`` here, for all nets.
"""

max_epochs = 4
# Validated once: 700 clips cost a third of an epoch.
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
