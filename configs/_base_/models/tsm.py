"""Define TSM (Lin et al., ICCV 2019) from MMAction2: a ResNet-50 with shifts in time.

Between its layers, the model shifts a part of the channels from each frame to its neighbours.
Training starts from MMAction2's weights for Kinetics-400, which were trained with 16 frames too.
"""

load_from = 'https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x16-50e_kinetics400-rgb/tsm_imagenet-pretrained-r50_8xb16-1x1x16-50e_kinetics400-rgb_20220831-042b1748.pth'  # noqa: E501

model = dict(
    type='Recognizer2D',
    backbone=dict(
        type='ResNetTSM',
        depth=50,
        num_segments=16,
        pretrained=None,
        pretrained2d=False,
        norm_eval=False,
        shift_div=8,
    ),
    cls_head=dict(
        type='TSMHead',
        num_classes=7,
        num_segments=16,
        in_channels=2048,
        spatial_type='avg',
        consensus=dict(type='AvgConsensus', dim=1),
        dropout_ratio=0.5,
        init_std=0.001,
        is_shift=True,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCHW',
    ),
)
