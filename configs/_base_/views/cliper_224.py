"""Define CLIPER's views of 16 frames of 224 pixels, from the authors' code (muse1998/CLIPER).

The code is for pictures of RAF-DB. In training, it resizes the short side to 224, cuts the centre,
changes the brightness by up to 0.4 and the hue by up to 0.3, flips at random, and takes a crop of
random area (0.15 to 1) and aspect ratio (0.3 to 3.3). In testing, it takes the centre. Our choice:
16 frames, one of each segment of a clip, all with the same random changes, because the code is not
for video. Also our choice: the crop is cut before pixels are normalised, not after.
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
