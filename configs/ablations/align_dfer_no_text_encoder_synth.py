"""Align-DFER without the text dynamic encoder: a class is the mean of its sentences.

    python tools/train.py configs/ablations/align_dfer_no_text_encoder_synth.py

Another dataset's config in place of align_dfer_synth.py ablates on that one; what is whose stands
there. The paper has such a table; its cells could not be read and none is quoted. Ours: not
measured.

Our choice: in the joint stage, whose one encoder serves both sides, sentences pass through it.
"""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(text_layers=0))
