"""Load the synthetic benchmark at 64 x 64 pixels, for networks that use Recognizer3D.

Each epoch shows a new random view of each drawn clip. Our choice: batches of 16 clips.
"""

_base_ = ['synth.py']

train_dataloader = dict(batch_size=16, dataset=dict(num_views=None))
