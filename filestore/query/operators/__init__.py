"""The executor's operators, one per file. Each takes its inputs as streams and returns a stream; none knows the
plan above it.

Thread rule, unless a file says otherwise: the function that makes a stream runs on the statement's thread, what it
wraps into the stream's work on any of the pool's, several at once. So work keeps nothing between batches but what a
lock guards.

Not here: which operator runs, and in what order (executor.py).
"""
