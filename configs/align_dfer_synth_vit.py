"""Train Align-DFER on the synthetic benchmark, with the small ViT CLIP of this package."""

_base_ = ['align_dfer_synth.py']

model = dict(backbone=dict(arch='synth-clip-vit'))
