"""BAP in 100 epochs: text 40, video 30, joint 30, in one Runner.

From the paper: the stages, their epochs, what each trains, SGD with momentum 0.9, batch 64 (in the
dataset's file). Ours: the rate and its course, restarted at each stage, weight decay, the clipping
of gradients, and when a layer joins.
"""

epochs = dict(text=40, video=30, joint=30)
stages = [
    dict(name='text', epochs=epochs['text'], trains=[r'cls_head\.tokens', r'neck\.text_encoder\.']),
    dict(
        name='video',
        epochs=epochs['video'],
        trains=[r'neck\.image_encoder\.'],
        grows_at=[0, 5, 10, 15],
    ),
    dict(
        name='joint',
        epochs=epochs['joint'],
        trains=[r'cls_head\.tokens', r'neck\.joint_encoder\.'],
        grows_at=[0, 10],
    ),
]
custom_hooks = [dict(type='BAPHook', stages=stages)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=sum(epochs.values()), val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(
        type='CosineRestartLR',
        periods=list(epochs.values()),
        restart_weights=[1, 1, 1],
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
# Batches are of each rank: --auto-scale-lr multiplies the rate by ranks * batch_size / 64.
auto_scale_lr = dict(enable=False, base_batch_size=64)
