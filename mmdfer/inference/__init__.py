"""Classify the expressions of a face over the course of a film."""

from mmdfer.inference.clip_model import ClipModel, build_clip_model
from mmdfer.inference.film import Film, open_film
from mmdfer.inference.timeline import Timeline

__all__ = ['ClipModel', 'Film', 'Timeline', 'build_clip_model', 'open_film']
