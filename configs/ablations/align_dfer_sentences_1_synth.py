"""Align-DFER with S = 1 sentence for each class in place of 16.

    python tools/train.py configs/ablations/align_dfer_sentences_1_synth.py

Another dataset's config in place of align_dfer_synth.py ablates on that one; what is whose stands
there. The paper has such a table; its cells could not be read and none is quoted. Ours: not
measured.
"""

_base_ = ['../align_dfer_synth.py']

model = dict(neck=dict(num_sentences=1), cls_head=dict(num_sentences=1))
