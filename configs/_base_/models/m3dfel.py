"""M3DFEL: an R3D-18 on 4 instances of 4 frames at 112, DLIAM, and a linear layer.

From the paper: the net and its sizes, Kinetics-400's weights of R3D-18. From a replicate of its
code: label smoothing of 0.1. Ours: the weights are read where ``model.backbone.pretrained`` gives
the path of torchvision's file, and nothing is downloaded; without it R3D-18 starts from scratch.
Pixels are normalised as torchvision has them for these weights.
"""

model = dict(
    type='Recognizer3D',
    backbone=dict(type='M3DFEL', instances=4, instance_length=4, pretrained=None),
    cls_head=dict(
        type='I3DHead',
        num_classes=7,
        in_channels=1024,
        dropout_ratio=0.0,
        label_smooth_eps=0.1,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[110.2008, 100.6398, 95.9948],
        std=[58.1477, 56.4698, 55.3322],
        format_shape='NCTHW',
    ),
)
