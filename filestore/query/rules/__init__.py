"""Rewriting rules: one file each, `Plan -> Plan`, listed in order in `optimize.RULES`."""
