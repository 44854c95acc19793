"""The synthetic benchmark for the nets, at 64, as Recognizer2D takes it: (16, 3, 64, 64)."""

_base_ = ['synth_64.py']

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[-2] = test_pipeline[-2] = dict(type='FormatShape', input_format='NCHW')
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
