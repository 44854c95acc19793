"""Define IAL (Li et al., AAAI 2023): ResNet18-ViT with the intensity-aware loss.

The loss is the paper's. Our choice: ResNet18-ViT, in place of the paper's network with global
convolution-attention blocks. The results of IAL and of resnet18_vit.py thus differ only because of
the loss.
"""

_base_ = ['resnet18_vit.py']

model = dict(cls_head=dict(loss_cls=dict(type='IntensityAwareLoss')))
