"""Train FineCLIPER on frames and face parts, without captions."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(levels=('frames', 'parts'))
