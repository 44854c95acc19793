"""Define IAL's views of 16 frames of 112 pixels, from the authors' code, with Pillow as there.

The code is muse1998/IAL-for-Facial-Expression-Recognition. A view has one frame of each of 16
segments. In training, frames get a crop of area 0.85 to 1 and aspect ratio 3/5 to 5/3, a random
flip, a brightness of 0.4 to 1.6, and a rotation by up to 4 degrees. In testing, they show the whole
picture. Our choice: brightness and rotation come before the crop. Also our choice: a clip of 16
frames is tested on all of them, and a shorter clip repeats its last frame. The authors' code takes
only the first frame of a clip of 16 frames, and leaves out shorter clips.
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
