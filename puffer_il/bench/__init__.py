"""Measuring: how fast every part is (speed.py), how well every algorithm learns (scores.py)."""
