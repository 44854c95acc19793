"""Define C3D (Tran et al., ICCV 2015) from MMAction2, for 16 frames of 112 pixels as in its paper.

The backbone starts from MMAction2's weights for Sports-1M. Pixels are normalised as these weights
require.
"""

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='C3D',
        pretrained='https://download.openmmlab.com/mmaction/recognition/c3d/c3d_sports1m_pretrain_20201016-dcc47ddc.pth',  # noqa: E501
        style='pytorch',
        conv_cfg=dict(type='Conv3d'),
        norm_cfg=None,
        act_cfg=dict(type='ReLU'),
        dropout_ratio=0.5,
        init_std=0.005,
    ),
    cls_head=dict(
        type='I3DHead',
        num_classes=7,
        in_channels=4096,
        spatial_type=None,
        dropout_ratio=0.5,
        init_std=0.01,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[104, 117, 128],
        std=[1, 1, 1],
        format_shape='NCTHW',
    ),
)
