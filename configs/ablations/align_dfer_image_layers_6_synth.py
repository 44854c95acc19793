"""Train Align-DFER with an image dynamic encoder of 6 layers in place of 4."""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(image_layers=6))
custom_hooks = _base_.custom_hooks
custom_hooks[0].stages[1].grows_at = [0, 3, 6, 9, 12, 15]
