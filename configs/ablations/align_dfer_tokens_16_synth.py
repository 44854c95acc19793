"""Train Align-DFER with T = 16 tokens in each sentence in place of 64."""

_base_ = ['../align_dfer_synth.py']

model = dict(cls_head=dict(num_tokens=16))
