"""Train Align-DFER on FERV39k, with CLIP ViT-L/14."""

_base_ = ['align_dfer_ferv39k.py']

model = dict(backbone=dict(arch='ViT-L-14-quickgelu'))
