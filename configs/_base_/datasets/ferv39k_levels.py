"""Load FERV39k with the levels of its clips, which are expected in ``data/FERV39k/levels``.

The probability of 0.3 of dropping a caption in training is our choice.
"""

_base_ = ['ferv39k.py']

levels = _base_.data_root + '/levels'
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='LoadLevels', folder=levels),
    *_base_.train_pipeline[3:-1],
    dict(type='PackLevels', drop_captions=0.3),
]
test_pipeline = [
    *_base_.test_pipeline[:3],
    dict(type='LoadLevels', folder=levels),
    *_base_.test_pipeline[3:-1],
    dict(type='PackLevels'),
]
train_dataloader = dict(batch_size=8, dataset=dict(num_views=None, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
