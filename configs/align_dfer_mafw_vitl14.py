"""Train Align-DFER on MAFW, with CLIP ViT-L/14."""

_base_ = ['align_dfer_mafw.py']

model = dict(backbone=dict(arch='ViT-L-14-quickgelu'))
