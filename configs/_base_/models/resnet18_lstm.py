"""Define ResNet18-LSTM: a ResNet18 on each of 16 frames, and an LSTM of one layer and 512 units.

The last state of the LSTM is classified. All values are our choice, because the tables that list
this network give only its name. ResNet18 starts from ImageNet weights, which is our choice too.
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
    neck=dict(type='LSTMNeck', dims=512),
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
