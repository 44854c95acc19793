"""EC-STFL (Jiang et al., ACM MM 2020): 3D ResNet18 with the expression-clustered loss.

From the paper: the loss, and 3D ResNet18 among the nets that it is put on.
"""

_base_ = ['r3d18.py']

model = dict(neck=dict(type='ExpressionClusteredNeck'))
