"""Train Align-DFER with class names in place of MAT: the text side has no tokens to learn."""

_base_ = ['../align_dfer_synth.py']

model = dict(
    neck=dict(num_sentences=1),
    cls_head=dict(
        _delete_=True,
        type='ClassNameHead',
        classes=_base_.classes,
        templates=['an expression of {}'],
    ),
)
custom_hooks = _base_.custom_hooks
custom_hooks[0].stages[0].trains = [r'neck\.text_encoder\.']
custom_hooks[0].stages[2].trains = [r'neck\.joint_encoder\.']
