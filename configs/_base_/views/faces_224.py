"""Define the views of CLIP's image towers: 16 frames, and faces of 224 cut from 240 pixels.

The paper of Align-DFER takes 16 consecutive frames, and faces of 112 cut from 120 pixels with scale
jitter. Our choice: the same ratio at 224, because CLIP's image towers require 224 pixels. Also our
choice, because the paper does not say where the frames lie in a clip: one frame of each of 16 equal
segments, with the frames random in training and central in testing.
"""

train_pipeline = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 240)),
    # 14/15 of 240 is 224. The scales one step larger and smaller are the jitter.
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
