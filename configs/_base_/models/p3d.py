"""Define P3D-63: a ResNet-50 of pseudo-3D blocks over 16 frames, and a linear classifier.

The paper gives the network and 16 frames. Our choice: 63 layers, because the tables on DFER do not
say which P3D they list. Also our choice: dropout of 0.5, the mean and standard deviation of
ImageNet, and frames of 112 pixels as for the other networks.
"""

model = dict(
    type='Recognizer3D',
    backbone=dict(type='P3D', depth=63),
    cls_head=dict(
        type='I3DHead', num_classes=7, in_channels=2048, dropout_ratio=0.5, average_clips='prob'
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
)
