"""FERV39k for the nets that take 224: a new view of each clip in every epoch."""

_base_ = ['ferv39k.py']

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    dataset=dict(num_views=None),
)
val_dataloader = dict(batch_size=8, num_workers=8)
test_dataloader = val_dataloader
