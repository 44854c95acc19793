"""Train FineCLIPER with the sentences that affirm a class only."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(cls_head=dict(score='positive'))
