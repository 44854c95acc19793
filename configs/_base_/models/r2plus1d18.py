"""Define R(2+1)D-18 (Tran et al., CVPR 2018), a 3D ResNet18 with factorised convolutions.

As in r3d18.py, the network starts from torchvision's Kinetics-400 weights. The input and the
dropout are also the same.
"""

_base_ = ['r3d18.py']

model = dict(backbone=dict(arch='r2plus1d_18', pretrained='torchvision://r2plus1d_18'))
