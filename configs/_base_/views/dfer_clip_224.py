"""Define DFER-CLIP's views, from the authors' code (zengqunzhao/DFER-CLIP), with Pillow as there.

In training, a view has 16 frames sampled as in TSN, cut to a crop of random area and aspect ratio,
and flipped at random. On DFEW, the brightness changes too (``dfer_clip_224_bright.py``). On
FERV39k, the picture is rotated too (``dfer_clip_224_rotated.py``). In testing, a view has the whole
picture. A clip with fewer than 16 frames repeats its last frame.
"""

train_view = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=16, short='last'),
    dict(type='ClipDecode'),
    dict(type='PillowRandomSizedCrop', size=224),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_view = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=16, short='last', test_mode=True),
    dict(type='ClipDecode'),
    dict(type='PillowResize', size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_loader = dict(batch_size=48, num_workers=4, dataset=dict(num_views=None, pipeline=train_view))
test_loader = dict(num_workers=4, dataset=dict(pipeline=test_view))
