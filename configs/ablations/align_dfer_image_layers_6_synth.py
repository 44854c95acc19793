"""Align-DFER with an image dynamic encoder of 6 layers in place of 4."""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(image_layers=6))
stages = _base_.stages
stages[1]['grows_at'] = [0, 3, 6, 9, 12, 15]
custom_hooks = [dict(type='BAPHook', stages=stages)]
