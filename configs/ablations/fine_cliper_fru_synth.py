"""Train FineCLIPER with FRU-Adapter in place of AIM, at equal parameters."""

_base_ = ['../fine_cliper/fine_cliper_synth.py']

model = dict(
    backbone=dict(
        adapter=dict(_delete_=True, type='FRUAdapter', width=79, num_frames=_base_.num_frames)
    )
)
