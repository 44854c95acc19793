"""Define DFER-CLIP's views for DFEW, where the brightness changes before the crop."""

_base_ = ['dfer_clip_224.py']

train_view = _base_.train_view
train_view.insert(3, dict(type='PillowColorJitter', brightness=0.5))
train_loader = dict(dataset=dict(pipeline=train_view))
