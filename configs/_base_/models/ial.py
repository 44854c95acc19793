"""IAL (Li et al., AAAI 2023): ResNet18-ViT with the intensity-aware loss.

From the paper: the loss. Ours: the net, ResNet18-ViT, in place of the paper's with global
convolution-attention blocks; so that the row shows what the loss does.
"""

_base_ = ['resnet18_vit.py']

model = dict(cls_head=dict(loss_cls=dict(type='IntensityAwareLoss')))
