"""Train FineCLIPER with LoRA in place of AIM in the image tower, at equal parameters."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(backbone=dict(adapter=dict(_delete_=True, type='LoRA', rank=49)))
