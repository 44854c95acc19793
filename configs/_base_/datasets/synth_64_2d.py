"""Load the views of synth_64.py in the shape (16, 3, 64, 64), which Recognizer2D requires."""

_base_ = ['synth_64.py']

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[-2] = test_pipeline[-2] = dict(type='FormatShape', input_format='NCHW')
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
