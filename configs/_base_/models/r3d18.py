"""3D ResNet18 (R3D-18) from MMAction2's ResNet3d: every 3 x 3 convolution is 3 x 3 x 3.

Time is halved where space is, from the second stage on. MMAction2 publishes no Kinetics weights of
depth 18; ``weights`` are ImageNet's of the 2D net, inflated.
"""

weights = 'torchvision://resnet18'

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3d',
        depth=18,
        pretrained=None,
        conv1_kernel=(3, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        conv_cfg=dict(type='Conv3d'),
        norm_eval=False,
        inflate=(1, 1, 1, 1),
        temporal_strides=(1, 2, 2, 2),
        zero_init_residual=False,
    ),
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
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
)
