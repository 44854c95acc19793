"""Run experiments with many trainings, and summarise their results in tables.

Interrupted experiments continue when the same command is run again.
"""
