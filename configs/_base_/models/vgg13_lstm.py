"""VGG13-LSTM: the LSTM of resnet18_lstm.py over a VGG13 on each frame.

Ours: all but the name, and the weights of ImageNet that the VGG13 starts from.
"""

_base_ = ['resnet18_lstm.py']

model = dict(backbone=dict(_delete_=True, type='VGG', depth=13, pretrained='torchvision://vgg13'))
