"""The views of CLIP's towers: 16 frames, one of each segment, and faces cut at 14/15 and made 224.

From the paper: 16 frames; faces of 112 cut from 120 with scale jitter. Ours: the same ratio at 224,
what CLIP's towers take; the frames random in training and central in testing.
"""

train_pipeline = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 240)),
    # Of 240: 14/15 is 224; one step smaller and larger is the jitter.
    dict(
        type='MultiScaleCrop',
        input_size=224,
        scales=(1, 14 / 15, 13 / 15),
        max_wh_scale_gap=0,
        random_crop=True,
    ),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 240)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
