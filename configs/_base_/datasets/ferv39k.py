"""FERV39k: where it lies, its views and its loaders.

``data_root`` is searched for label files and clips, whatever they were unpacked into
(``docs/datasets.md``), and ``python tools/check_dataset.py ferv39k data/FERV39k`` says whether all
is there. ``media='videos'`` reads the whole clips, ``scenes=[...]`` some of the 22
scenes.

From the paper: faces of 112 cut from 120 with scale jitter, 16 frames, batch 64. Ours: the same
ratio at 224, what CLIP's towers take; the frames, one of each segment, random in training and
central in testing; eight views of each training clip, each encoded once.
"""

data_root = '{{$MMDFER_DATA:data}}/FERV39k'
# For the heads that write the names; in the order of the dataset's labels.
classes = ['happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear']
num_classes = 7

train_pipeline = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    # 14/15 is 112 of 120; one step smaller and larger is the jitter.
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
train_dataloader = dict(
    batch_size=64,
    num_workers=0,  # training reads vectors; the frames are decoded by EncodeOnceHook's workers
    sampler=dict(type='EpochSampler', shuffle=True),
    dataset=dict(
        type='FERV39k',
        data_root=data_root,
        split='train',
        media='frames',
        num_views=8,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='FERV39k',
        data_root=data_root,
        split='test',
        media='frames',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DFERMetric')
test_evaluator = val_evaluator
