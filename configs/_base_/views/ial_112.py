"""IAL's views, from the authors' code (muse1998/IAL-for-Facial-Expression-Recognition), by Pillow.

16 segments of a frame; training: a crop of area 0.85 to 1 and ratio 3/5 to 5/3, a flip, brightness
of 0.4 to 1.6, a rotation of up to 4 degrees; testing: the whole picture at 112. Ours: brightness
and rotation come before the crop; a clip of 16 frames is tested on all of them and a shorter one
repeats its last, where the authors' code takes the first frame alone and drops the clip.
"""

train_view = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=16),
    dict(type='ClipDecode'),
    dict(type='PillowColorJitter', brightness=0.6),
    dict(type='PillowRotate', degrees=4),
    dict(type='PillowRandomSizedCrop', size=112, area=(0.85, 1.0), ratio=(3 / 5, 5 / 3)),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
test_view = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='PillowResize', size=112),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]
train_loader = dict(batch_size=40, num_workers=8, dataset=dict(num_views=None, pipeline=train_view))
test_loader = dict(batch_size=32, num_workers=8, dataset=dict(pipeline=test_view))
