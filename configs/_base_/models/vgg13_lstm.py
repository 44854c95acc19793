"""Define VGG13-LSTM: a VGG13 on each frame, and the LSTM of resnet18_lstm.py.

Only the name is from the papers. Our choice: all other values, such as the ImageNet weights that
VGG13 starts from.
"""

_base_ = ['resnet18_lstm.py']

model = dict(backbone=dict(_delete_=True, type='VGG', depth=13, pretrained='torchvision://vgg13'))
