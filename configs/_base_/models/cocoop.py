"""Define CoCoOp: the shared context of CoOp, to which a Meta-Net adds a vector for each clip.

The paper gives the shared context and the Meta-Net, which has two linear layers and a hidden width
of 1/16. The paper is about images. Our choice: the mean of the frame vectors takes the place of the
image vector, the context has 16 tokens as in coop.py, and CLIP is ViT-B/32 with OpenAI's weights.
"""

model = dict(
    type='CLIPRecognizer',
    backbone=dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='openai'),
    cls_head=dict(type='CoCoOpHead', num_tokens=16),
)
