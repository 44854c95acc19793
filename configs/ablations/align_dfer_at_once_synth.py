"""Train Align-DFER without BAP: the tokens and all layers of JAS train together from the start."""

_base_ = ['../align_dfer_synth.py']

custom_hooks = _base_.custom_hooks
custom_hooks[0].stages = [
    dict(
        name='joint',
        epochs=sum(stage.epochs for stage in custom_hooks[0].stages),
        trains=[r'cls_head\.tokens', r'neck\.joint_encoder\.'],
    )
]
