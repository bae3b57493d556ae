"""The ports: PostgreSQL's wire protocol, gRPC, Arrow Flight. Thin translations onto `Session`, and `serve`, which
starts them all.
"""
