"""CLIPER's views, from the authors' code (muse1998/CLIPER, for pictures of RAF-DB).

Training: the short side resized to 224 and its centre cut, brightness 0.4 and hue 0.3, a flip, a
crop of random area (0.15 to 1) and ratio (0.3 to 3.3). Testing: the centre. Ours: 16 frames, one of
each segment, with the same change in all; the crop is cut before pixels are normalised, not after.
"""

train_view = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 224), interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PillowColorJitter', brightness=0.4, hue=0.3),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='RandomResizedCrop', area_range=(0.15, 1.0), aspect_ratio_range=(0.3, 3.3)),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_view = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 224), interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_loader = dict(
    batch_size=128, num_workers=4, dataset=dict(num_views=None, pipeline=train_view)
)
test_loader = dict(num_workers=4, dataset=dict(pipeline=test_view))
