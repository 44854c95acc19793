"""Load MAFW with the levels of its clips, which are expected in ``data/MAFW/levels``.

If captions.jsonl is missing there, it is written from the captions of the release. Only clips that
are not neutral have one, so testing must not read captions: whether there is one would give the
label away. Our choice: captions are also dropped from three training views in ten.
"""

_base_ = ['mafw.py']

levels = _base_.data_root + '/levels'
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='LoadLevels', folder=levels),
    *_base_.train_pipeline[3:-1],
    dict(type='PackLevels', drop_captions=0.3),
]
test_pipeline = [
    *_base_.test_pipeline[:3],
    dict(type='LoadLevels', folder=levels, captions=False),
    *_base_.test_pipeline[3:-1],
    dict(type='PackLevels'),
]
train_dataloader = dict(
    batch_size=8, dataset=dict(levels=levels, num_views=None, pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
