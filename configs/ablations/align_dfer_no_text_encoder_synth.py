"""Align-DFER without the text dynamic encoder: a class is the mean of its sentences."""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(text_layers=0))
