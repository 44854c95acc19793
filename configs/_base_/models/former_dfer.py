"""Define Former-DFER: CS-Former and T-Former over 16 frames of 112 pixels, and a linear classifier.

The paper gives the network and its sizes. The authors' code gives pixels between 0 and 1 and no
dropout. If frames have another size, ``model.backbone.input_size`` must be changed too.
"""

model = dict(
    type='Recognizer3D',
    backbone=dict(type='FormerDFER', input_size=112, num_frames=16),
    cls_head=dict(
        type='I3DHead', num_classes=7, in_channels=512, dropout_ratio=0.0, average_clips='prob'
    ),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        format_shape='NCTHW',
    ),
)
