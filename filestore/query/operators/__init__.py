"""The executor's operators, one per file. Each takes its inputs as streams and returns a stream; none knows the
plan above it.
"""
