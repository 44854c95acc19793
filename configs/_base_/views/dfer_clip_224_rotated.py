"""Define DFER-CLIP's views for FERV39k, where the picture is rotated before the crop."""

_base_ = ['dfer_clip_224.py']

train_view = _base_.train_view
train_view.insert(3, dict(type='PillowRotate', degrees=4))
train_loader = dict(dataset=dict(pipeline=train_view))
