"""Define ResNet18-ViT: a ResNet18 on each of 16 frames, and a transformer with a class token.

Our choice, because the papers' tables only name this network: the transformer's size, which is that
of DFER-CLIP, and ImageNet weights as the start of ResNet18.
"""

model = dict(
    type='Recognizer2D',
    backbone=dict(
        type='ResNet',
        depth=18,
        pretrained='torchvision://resnet18',
        out_indices=(2, 3),
        norm_eval=False,
    ),
    neck=dict(type='TemporalTransformer', dims=512, depth=1, heads=8, mlp=1024, num_frames=16),
    cls_head=dict(
        type='TSNHead',
        num_classes=7,
        in_channels=512,
        spatial_type='avg',
        dropout_ratio=0.5,
        init_std=0.01,
        average_clips='prob',
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCHW',
    ),
)
