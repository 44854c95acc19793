"""Train FineCLIPER with Align-DFER's learned sentences and dynamic encoders (MAT and JAS)."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(
    neck=dict(_delete_=True, type='JAS', num_frames=_base_.num_frames, num_sentences=4),
    cls_head=dict(_delete_=True, type='MATHead', num_classes=7, num_sentences=4, num_tokens=16),
)
# At 5e-4, the rate of the other necks, frames and parts do not train (docs/methods.md).
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'neck.joint_encoder.': dict(lr_mult=0.04)}))
# All parts train together, in a single stage.
stage = dict(
    name='joint',
    epochs=_base_.max_epochs,
    trains=[
        r'backbone\.(text_)?adapter\.',
        r'cls_head\.tokens|level_scalars',  # the scalars train if there are several levels
        r'neck\.joint_encoder\.',
    ],
)
custom_hooks = [dict(type='BAPHook', stages=[stage])]
