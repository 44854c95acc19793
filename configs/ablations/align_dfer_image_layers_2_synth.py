"""Align-DFER with an image dynamic encoder of 2 layers in place of 4.

    python tools/train.py configs/ablations/align_dfer_image_layers_2_synth.py

Another dataset's config in place of align_dfer_synth.py ablates on that one; what is whose stands
there. The paper has such a table; its cells could not be read and none is quoted. Ours: not
measured.

Our choice: the epochs at which they join.
"""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(image_layers=2))
custom_hooks = _base_.custom_hooks
custom_hooks[0].stages[1].grows_at = [0, 4]
