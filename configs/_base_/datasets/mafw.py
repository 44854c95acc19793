"""Load MAFW, fold 1 of five, single labels, in batches of 64 clips as in Align-DFER's paper.

Our choice: each clip of MAFW has eight training views, which the epochs show in turn, so that a
frozen image tower can encode each view only once. ``captions=True`` reads the label files with
captions. ``labels='compound'`` reads the 43 compound classes, for which the number of classes must
be 43 in this file and in the head of the model.
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
