"""R(2+1)D-18 (Tran et al., CVPR 2018): 3D ResNet18 with factorised convolutions, from torchvision.

Its start, input and dropout are those of r3d18.py.
"""

_base_ = ['r3d18.py']

model = dict(backbone=dict(arch='r2plus1d_18', pretrained='torchvision://r2plus1d_18'))
