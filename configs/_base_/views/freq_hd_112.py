"""The views of faces_112.py with Freq-HD's frames: the stretch of a clip that moves most."""

picked_train_view = [
    dict(type='ClipInit'),
    dict(type='SampleFreqHD', clip_len=16),
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
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
picked_test_view = [
    dict(type='ClipInit'),
    dict(type='SampleFreqHD', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 120)),
    dict(type='CenterCrop', crop_size=112),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
