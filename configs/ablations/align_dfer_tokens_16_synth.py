"""Align-DFER with T = 16 tokens in each sentence in place of 64.

    python tools/train.py configs/ablations/align_dfer_tokens_16_synth.py

Another dataset's config in place of align_dfer_synth.py ablates on that one; what is whose stands
there. The paper has such a table; its cells could not be read and none is quoted. Ours: not
measured.
"""

_base_ = ['../align_dfer_synth.py']

model = dict(cls_head=dict(num_tokens=16))
