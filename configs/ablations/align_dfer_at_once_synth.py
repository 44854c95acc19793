"""Align-DFER without BAP: the tokens and all layers of JAS train together from the start.

    python tools/train.py configs/ablations/align_dfer_at_once_synth.py

Another dataset's config in place of align_dfer_synth.py ablates on that one; what is whose stands
there. The paper has such a table; its cells could not be read and none is quoted. Ours: not
measured.

Our choice: as many epochs as BAP's stages have together, and one cosine.
"""

_base_ = ['../align_dfer_synth.py']

custom_hooks = _base_.custom_hooks
custom_hooks[0].stages = [
    dict(
        name='joint',
        epochs=sum(stage.epochs for stage in custom_hooks[0].stages),
        trains=[r'cls_head\.tokens', r'neck\.joint_encoder\.'],
    )
]
