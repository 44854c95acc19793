"""Define the views of faces_112.py with Freq-HD: frames from the part of a clip that moves most."""

_base_ = ['faces_112.py']

train_view, test_view = _base_.train_view, _base_.test_view
train_view[1] = test_view[1] = dict(type='SampleFreqHD', clip_len=16)
train_loader = dict(dataset=dict(pipeline=train_view))
test_loader = dict(dataset=dict(pipeline=test_view))
