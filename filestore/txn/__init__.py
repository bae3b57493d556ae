"""Transactions: snapshots and the one visibility rule, writes that wait for one another, locks, and the
engine that commits.
"""
