"""Figures beside the peers: `python -m bench`, or one part of it by name.

What is measured, and how, is told by each part.
"""
