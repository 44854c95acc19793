"""Provide the text heads, each of which describes the classes by prompts as one method does."""

from mmdfer.models.heads.class_name_head import ClassNameHead
from mmdfer.models.heads.cliper_head import CLIPERHead
from mmdfer.models.heads.cocoop_head import CoCoOpHead
from mmdfer.models.heads.coop_head import CoOpHead
from mmdfer.models.heads.dfer_clip_head import DFERCLIPHead
from mmdfer.models.heads.mat_head import MATHead
from mmdfer.models.heads.text_head import TextHead
from mmdfer.models.heads.two_sided_head import TwoSidedHead

__all__ = [
    'CLIPERHead',
    'ClassNameHead',
    'CoCoOpHead',
    'CoOpHead',
    'DFERCLIPHead',
    'MATHead',
    'TextHead',
    'TwoSidedHead',
]
