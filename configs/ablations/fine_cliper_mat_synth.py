"""Train FineCLIPER with Align-DFER's learned sentences (MAT) in place of its sentences."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(
    cls_head=dict(_delete_=True, type='MATHead', num_classes=7, num_sentences=4, num_tokens=16)
)
