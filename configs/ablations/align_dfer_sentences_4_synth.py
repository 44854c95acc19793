"""Train Align-DFER with S = 4 sentences for each class in place of 16."""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(num_sentences=4), cls_head=dict(num_sentences=4))
