"""Former-DFER: CS-Former and T-Former over 16 frames at 112, and a linear layer.

From the paper: the net and its sizes. From the authors' code: pixels between 0 and 1, no dropout.
Another size of frames is ``model.backbone.input_size`` too.
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
