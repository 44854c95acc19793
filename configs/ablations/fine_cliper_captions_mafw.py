"""Test FineCLIPER on MAFW with captions, which all clips but the neutral ones have."""

_base_ = ['../fine_cliper/fine_cliper_mafw.py']

test_pipeline = _base_.test_pipeline
test_pipeline[3].captions = True
val_dataloader = dict(dataset=dict(levels=_base_.levels, pipeline=test_pipeline))
test_dataloader = val_dataloader
