"""DFER-CLIP's views, from the authors' code (zengqunzhao/DFER-CLIP), by Pillow.

Training: 16 frames as TSN samples them, brightness on DFEW (``bright``), rotation on FERV39k
(``rotated``), neither on MAFW (``plain``), a crop of random area and ratio, a flip. Testing: the
whole picture. A clip of fewer than 16 frames repeats its last.
"""

decode = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=16, short='last'),
    dict(type='ClipDecode'),
]
crop = [
    dict(type='PillowRandomSizedCrop', size=224),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
bright = decode + [dict(type='PillowColorJitter', brightness=0.5)] + crop
rotated = decode + [dict(type='PillowRotate', degrees=4)] + crop
plain = decode + crop
whole = [
    dict(type='ClipInit'),
    dict(type='SampleTSN', num_segments=16, short='last', test_mode=True),
    dict(type='ClipDecode'),
    dict(type='PillowResize', size=224),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
