"""CLIPER on FERV39k, over CLIP ViT-B/16.

    python tools/train.py configs/cliper/cliper_ferv39k.py

The paper's figures on FERV39k, WAR / UAR in %: 51.34 / 41.23.
Ours: not measured, since nobody here holds the data.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/cliper.py',
    '../_base_/datasets/ferv39k.py',
    '../_base_/views/cliper_224.py',
    '../_base_/schedules/cliper_59e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))

# The tower trains: a new view in each epoch, and nothing is encoded beforehand.
train_pipeline = {{_base_.cliper_train}}
test_pipeline = {{_base_.cliper_test}}
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(num_views=None, pipeline={{_base_.cliper_train}}),
)
val_dataloader = dict(num_workers=4, dataset=dict(pipeline={{_base_.cliper_test}}))
test_dataloader = val_dataloader
