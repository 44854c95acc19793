"""3D ResNet18 (R3D-18; Tran et al., CVPR 2018): torchvision's net, and its Kinetics-400 weights.

The papers that print this row do not say how their nets began. Ours: torchvision's weights,
downloaded when training begins, pixels normalised as these take them, dropout 0.5.
"""

model = dict(
    type='Recognizer3D',
    backbone=dict(type='VideoResNet', arch='r3d_18', pretrained='torchvision://r3d_18'),
    cls_head=dict(
        type='I3DHead',
        num_classes=7,
        in_channels=512,
        spatial_type='avg',
        dropout_ratio=0.5,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[110.2008, 100.6398, 95.9948],
        std=[58.1477, 56.4698, 55.3322],
        format_shape='NCTHW',
    ),
)
