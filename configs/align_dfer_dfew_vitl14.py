"""Train Align-DFER on DFEW, with CLIP ViT-L/14."""

_base_ = ['align_dfer_dfew.py']

model = dict(backbone=dict(arch='ViT-L-14-quickgelu'))
