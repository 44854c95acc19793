"""Former-DFER's views, from the authors' code (zengqunzhao/Former-DFER), by Pillow.

8 segments of 2 frames; training: a crop of random area and ratio, a flip; testing: the whole
picture at 112.
"""

former_dfer_train = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=8, duration=2, short='first'),
    dict(type='ClipDecode'),
    dict(type='PillowRandomSizedCrop', size=112),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
former_dfer_test = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=8, duration=2, short='first', test_mode=True),
    dict(type='ClipDecode'),
    dict(type='PillowResize', size=112),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
