"""Load DFEW, fold 1 of five, in batches of 64 clips as in Align-DFER's paper.

Our choice: each clip of DFEW has eight training views, which the epochs show in turn, so that a
frozen image tower can encode each view only once. ``media='frames16'`` reads the published folders
with 16 frames of each clip instead of all frames. Results with 16 and with all frames cannot be
compared.
"""

_base_ = ['../views/faces_224.py']

data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/DFEW'
classes = ['happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear']
num_classes = 7

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(
        type='DFEW',
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
        type='DFEW',
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
