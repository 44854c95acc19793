"""The views of the nets: 16 frames, one of each segment, and faces of 112 cut from 120.

From the papers: 16 frames; faces of 112 cut from 120 with scale jitter. Ours: one frame of each
segment, random in training and central in testing; that every net sees the same.

``train_view`` and ``test_view`` give (1, 3, 16, 112, 112), as Recognizer3D takes them,
``train_view_2d`` and ``test_view_2d`` (16, 3, 112, 112), as Recognizer2D does.
"""

train_frames = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 120)),
    # Of 120: 14/15 is 112; one step smaller and larger is the jitter.
    dict(
        type='MultiScaleCrop',
        input_size=112,
        scales=(1, 14 / 15, 13 / 15),
        max_wh_scale_gap=0,
        random_crop=True,
    ),
    dict(type='Resize', scale=(112, 112), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
]
test_frames = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 120)),
    dict(type='CenterCrop', crop_size=112),
]
pack_3d = [dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
pack_2d = [dict(type='FormatShape', input_format='NCHW'), dict(type='PackActionInputs')]

train_view, test_view = train_frames + pack_3d, test_frames + pack_3d
train_view_2d, test_view_2d = train_frames + pack_2d, test_frames + pack_2d
