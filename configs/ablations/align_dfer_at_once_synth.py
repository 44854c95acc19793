"""Align-DFER without BAP: the tokens and all layers of JAS train together from the start."""

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
