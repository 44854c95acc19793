"""Define 3D ResNet18 (R3D-18; Tran et al., CVPR 2018) with torchvision's Kinetics-400 weights.

The papers that report this network do not say how it was initialised. Our choice: torchvision's
weights, which are downloaded when training starts, pixels normalised as these weights require, and
dropout of 0.5.
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
