"""The views of the nets: 16 frames, one of each segment, and faces of 112 cut from 120.

From the papers: 16 frames, and a face of 112 pixels with scale jitter. Ours: one frame of each
segment, random in training and central in testing; that every net sees the same. A view has the
shape (1, 3, 16, 112, 112), which Recognizer3D takes.
"""

train_view = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 120)),
    # 14/15 of 120 is 112; the other two scales are the jitter.
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
