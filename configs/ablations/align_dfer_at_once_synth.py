"""Align-DFER without BAP: the tokens and all layers of JAS train together from the start.

    python tools/train.py configs/ablations/align_dfer_at_once_synth.py

Another dataset's config in place of align_dfer_synth.py ablates on that one; what is whose stands
there. The paper has such a table; its cells could not be read and none is quoted. Ours: not
measured.

Our choice: as many epochs as BAP's stages have together, and one cosine.
"""

_base_ = ['../align_dfer_synth.py']

epochs = sum(_base_.epochs.values())
trains = [r'cls_head\.tokens', r'neck\.joint_encoder\.']
custom_hooks = [
    dict(type='BAPHook', stages=[dict(name='joint', epochs=epochs, trains=trains)]),
]
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=epochs,
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
