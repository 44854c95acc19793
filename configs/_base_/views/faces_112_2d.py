"""Define the views of faces_112.py in the shape (16, 3, 112, 112), which Recognizer2D requires."""

_base_ = ['faces_112.py']

train_view, test_view = _base_.train_view, _base_.test_view
train_view[-2] = test_view[-2] = dict(type='FormatShape', input_format='NCHW')
train_loader = dict(dataset=dict(pipeline=train_view))
test_loader = dict(dataset=dict(pipeline=test_view))
