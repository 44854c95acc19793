"""Load MAFW with the views and the loaders of faces_112.py."""

_base_ = ['mafw.py', '../views/faces_112.py']

train_pipeline = {{_base_.train_view}}
test_pipeline = {{_base_.test_view}}
train_dataloader = {{_base_.train_loader}}
val_dataloader = {{_base_.test_loader}}
test_dataloader = {{_base_.test_loader}}
