"""P3D-63: a ResNet-50 of pseudo-3D blocks over 16 frames, and a linear layer.

From the paper: the net, 16 frames. Ours: 63 layers, since DFER's tables do not say which; dropout
of 0.5, ImageNet's mean and standard deviation, and frames at 112 as the other nets have them.
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
