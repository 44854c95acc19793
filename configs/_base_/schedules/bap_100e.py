"""Train Align-DFER in the three stages of BAP, of 40, 30 and 30 epochs, in one Runner.

The stages are text, video and joint. The paper gives the stages, their epochs, the parts that each
stage trains, SGD with momentum 0.9, and batches of 64 (set in the file of the dataset). Our choice,
because the paper does not say: the learning rate and its schedule, which restarts at each stage,
the weight decay, the clipping of gradients, and the epochs at which layers join.
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
# One cosine for each stage. StagedTrainLoop sets the periods.
param_scheduler = [
    dict(type='CosineRestartLR', eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
# batch_size is per rank. --auto-scale-lr multiplies the rate by ranks * batch_size / 64.
auto_scale_lr = dict(enable=False, base_batch_size=64)
