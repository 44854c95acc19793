"""A dataset of your own: CSV files of clips and labels, read by CSVDataset.

Our choices: batch 64, and eight views of each training clip that the epochs show in turn, as for
DFEW.
"""

_base_ = ['../views/faces_224.py']

data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/custom'

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CSVDataset',
        data_root=data_root,
        split='train',
        num_views=8,
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CSVDataset',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DFERMetric')
test_evaluator = val_evaluator
