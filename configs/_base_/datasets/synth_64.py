"""The synthetic benchmark for the nets, at 64, as Recognizer3D takes it.

A new view of each clip in every epoch. Ours: batch 16.
"""

_base_ = ['synth.py']

train_dataloader = dict(batch_size=16, num_workers=2, dataset=dict(num_views=None))
val_dataloader = dict(num_workers=2)
test_dataloader = val_dataloader
