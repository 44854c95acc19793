"""Define M3DFEL: R3D-18 on 4 instances of 4 frames of 112 pixels, DLIAM and a linear classifier.

The paper gives the network, its sizes, and the weights of R3D-18 for Kinetics-400. A replicate of
the authors' code gives label smoothing of 0.1. Our choice: nothing is downloaded. The weights are
read if ``model.backbone.pretrained`` is the path of torchvision's file, and otherwise R3D-18 starts
from scratch. Pixels are normalised as torchvision does for these weights.
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
