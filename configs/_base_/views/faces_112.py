"""Define the views of the networks: 16 frames, and faces of 112 cut from 120 pixels.

The papers give 16 frames, and faces of 112 pixels with scale jitter. Our choice: one frame of each
of 16 equal segments, at a random place in training and in the middle in testing, and the same views
for every network. A view has the shape (1, 3, 16, 112, 112), as Recognizer3D requires.
"""

train_view = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 120)),
    # 14/15 of 120 is 112. The other two scales are the jitter.
    dict(
        type='MultiScaleCrop',
        input_size=112,
        scales=(1, 14 / 15, 13 / 15),
        max_wh_scale_gap=0,
        random_crop=True,
    ),
    dict(type='Resize', scale=(112, 112), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_view = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 120)),
    dict(type='CenterCrop', crop_size=112),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_loader = dict(batch_size=32, num_workers=8, dataset=dict(num_views=None, pipeline=train_view))
test_loader = dict(batch_size=32, num_workers=8, dataset=dict(pipeline=test_view))
