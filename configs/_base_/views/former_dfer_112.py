"""Define Former-DFER's views, from the authors' code (zengqunzhao/Former-DFER), with Pillow.

A view has 2 neighbouring frames of each of 8 segments. In training, the frames are cut to a crop of
random area and aspect ratio, and flipped at random. In testing, the whole picture is resized to 112
pixels.
"""

train_view = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=8, duration=2, short='first'),
    dict(type='ClipDecode'),
    dict(type='PillowRandomSizedCrop', size=112),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_view = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=8, duration=2, short='first', test_mode=True),
    dict(type='ClipDecode'),
    dict(type='PillowResize', size=112),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_loader = dict(batch_size=32, num_workers=8, dataset=dict(num_views=None, pipeline=train_view))
test_loader = dict(batch_size=32, num_workers=8, dataset=dict(pipeline=test_view))
