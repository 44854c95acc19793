"""Load MAFW with the loaders of nets_224.py."""

_base_ = ['mafw.py', '../views/nets_224.py']

train_dataloader = {{_base_.train_loader}}
val_dataloader = {{_base_.test_loader}}
test_dataloader = {{_base_.test_loader}}
