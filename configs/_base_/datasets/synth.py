"""Load the synthetic benchmark, which is made first if it is missing.

``split='fit'`` and ``split='heldout'`` are two parts of the training set that show different
people. They are meant for tuning hyperparameters (``docs/synthetic.md``).

All values are our choice. A view has one frame from each of 16 equal segments of a drawn clip, at a
random place in training and in the middle in testing. Each drawn clip has four training views,
which the epochs show in turn. The batch size of 64 is that of Align-DFER.
"""

data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/synth'
classes = ['happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear']
num_classes = 7

# A crop of 64 from 69 pixels has nearly the ratio of Align-DFER's crop of 112 from 120.
train_pipeline = [
    dict(type='ClipInit'),
    dict(type='UniformSample', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='ClipInit'),
    dict(type='UniformSample', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='CenterCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='SynthDFER',
        data_root=data_root,
        split='train',
        num_views=4,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SynthDFER',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DFERMetric')
test_evaluator = val_evaluator
