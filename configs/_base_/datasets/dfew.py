"""DFEW: where it lies, its views and its loaders.

``data_root`` is searched for label files and clips, whatever they were unpacked into
(``docs/datasets.md``), and ``python tools/check_dataset.py dfew data/DFEW`` says whether all
is there. ``media='frames16'`` reads the folder of 16 frames each, whose figures are
other figures, and ``media='videos'`` the whole clips of film. ``fold`` is one of five:
``tools/cross_validate.py`` runs all.

From the paper: batch 64. Ours: eight views of each training clip, in turn; what a view
is, ``_base_/views/faces_224.py`` says.
"""

_base_ = ['../views/faces_224.py']

# mmengine's {{$...}} breaks on the backslashes of a Windows path, and an `import os` makes mmengine
# read the file as a config of its other kind.
data_root = (__import__('os').environ.get('MMDFER_DATA') or 'data') + '/DFEW'
# For the heads that write the names; in the order of the dataset's labels.
classes = ['happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear']
num_classes = 7

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,  # under clipped steps a few clips would weigh as much as a whole batch
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
