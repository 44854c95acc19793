"""Train Align-DFER with S = 1 sentence for each class in place of 16."""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(num_sentences=1), cls_head=dict(num_sentences=1))
