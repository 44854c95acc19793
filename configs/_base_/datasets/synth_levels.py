"""Load the synthetic benchmark with masks, landmarks and captions, which are made if missing.

All values are our choice: 8 frames of 64 x 64 pixels, batches of 8 clips, and captions that are
left out of three training views in ten, so that the model also learns to do without them.
"""

_base_ = ['synth.py']

levels = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/synth/levels'
num_frames = 8
train_pipeline = [
    dict(type='ClipInit'),
    dict(type='UniformSample', clip_len=num_frames),
    dict(type='ClipDecode'),
    dict(type='LoadLevels', folder=levels),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackLevels', drop_captions=0.3),
]
test_pipeline = [
    dict(type='ClipInit'),
    dict(type='UniformSample', clip_len=num_frames, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='LoadLevels', folder=levels),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='CenterCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackLevels'),
]
train_dataloader = dict(
    batch_size=8, dataset=dict(num_views=None, levels=levels, pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=32, dataset=dict(levels=levels, pipeline=test_pipeline))
test_dataloader = val_dataloader
