"""Run many trainings that continue where they were interrupted, and put them into tables."""
