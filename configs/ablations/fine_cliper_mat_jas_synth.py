"""Train FineCLIPER with Align-DFER's learned sentences and dynamic encoders (MAT and JAS)."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(
    neck=dict(_delete_=True, type='JAS', num_frames=_base_.num_frames, num_sentences=4),
    cls_head=dict(_delete_=True, type='MATHead', num_classes=7, num_sentences=4, num_tokens=16),
)
# All parts train together, in a single stage.
stage = dict(
    name='joint',
    epochs=_base_.max_epochs,
    trains=[
        r'backbone\.(text_)?adapter\.',
        r'cls_head\.tokens',
        r'neck\.joint_encoder\.',
        r'level_scalars',
    ],
)
custom_hooks = [dict(type='BAPHook', stages=[stage])]
