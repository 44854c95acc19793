"""The synthetic benchmark for the nets, at 64, as Recognizer3D takes it.

A new view of each clip in every epoch. Ours: batch 16.
"""

_base_ = ['synth.py']

train_dataloader = dict(batch_size=16, dataset=dict(num_views=None))
