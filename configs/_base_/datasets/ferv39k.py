"""FERV39k: where it lies, its views and its loaders.

``data_root`` is searched for label files and clips, whatever they were unpacked into
(``docs/datasets.md``), and ``python tools/check_dataset.py ferv39k data/FERV39k`` says whether all
is there. ``media='videos'`` reads the whole clips, ``scenes=[...]`` some of the 22
scenes.

From the paper: batch 64. Ours: eight views of each training clip, in turn; what a view
is, ``_base_/views/faces_224.py`` says.
"""

_base_ = ['../views/faces_224.py']

# mmengine's {{$...}} breaks on the backslashes of a Windows path, and an `import os` makes mmengine
# read the file as a config of its other kind.
data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/FERV39k'
# For the heads that write the names; in the order of the dataset's labels.
classes = ['happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear']
num_classes = 7

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,  # under clipped steps a few clips would weigh as much as a whole batch
    dataset=dict(
        type='FERV39k',
        data_root=data_root,
        split='train',
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
        type='FERV39k',
        data_root=data_root,
        split='test',
        media='frames',
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DFERMetric')
test_evaluator = val_evaluator
