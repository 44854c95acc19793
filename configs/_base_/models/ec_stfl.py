"""Define EC-STFL (Jiang et al., ACM MM 2020): 3D ResNet18 with the expression-clustered loss.

The loss is the paper's. 3D ResNet18 is one of the networks that the paper trains with this loss.
"""

_base_ = ['r3d18.py']

model = dict(neck=dict(type='ExpressionClusteredNeck'))
