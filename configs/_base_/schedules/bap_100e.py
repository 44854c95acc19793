"""BAP in 100 epochs: text 40, video 30, joint 30, in one Runner.

From the paper: the stages, their epochs, what each trains, SGD with momentum 0.9, batch 64 (in the
dataset's file). Ours: the rate and its course, restarted at each stage, weight decay, the clipping
of gradients, and when a layer joins.
"""

custom_hooks = [
    dict(
        type='BAPHook',
        stages=[
            dict(name='text', epochs=40, trains=[r'cls_head\.tokens', r'neck\.text_encoder\.']),
            dict(
                name='video',
                epochs=30,
                trains=[r'neck\.image_encoder\.'],
                grows_at=[0, 5, 10, 15],
            ),
            dict(
                name='joint',
                epochs=30,
                trains=[r'cls_head\.tokens', r'neck\.joint_encoder\.'],
                grows_at=[0, 10],
            ),
        ],
    ),
]
train_cfg = dict(type='StagedTrainLoop', val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=1.0),
)
# A cosine in each stage: StagedTrainLoop fills in the periods.
param_scheduler = [
    dict(type='CosineRestartLR', eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
# Batches are of each rank: --auto-scale-lr multiplies the rate by ranks * batch_size / 64.
auto_scale_lr = dict(enable=False, base_batch_size=64)
