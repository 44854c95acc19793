"""MAFW, fold 1 of five, single labels.

From the paper: batch 64. Ours: eight views of each MAFW clip, which training shows in turn.
``captions=True`` reads the lists that have captions. ``labels='compound'`` reads the 43 classes,
with 43 as the number of classes here and in the model's head.
"""

_base_ = ['../views/faces_224.py']

data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/MAFW'
# fmt: off
classes = [
    'anger', 'disgust', 'fear', 'happiness', 'neutral', 'sadness', 'surprise', 'contempt',
    'anxiety', 'helplessness', 'disappointment',
]
# fmt: on
num_classes = 11

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(
        type='MAFW',
        data_root=data_root,
        split='train',
        fold=1,
        media='frames',
        num_views=8,
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MAFW',
        data_root=data_root,
        split='test',
        fold=1,
        media='frames',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DFERMetric')
test_evaluator = val_evaluator
