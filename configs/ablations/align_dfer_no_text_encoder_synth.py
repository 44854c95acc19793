"""Train Align-DFER without the text dynamic encoder: class vectors are means of sentences."""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(text_layers=0))
