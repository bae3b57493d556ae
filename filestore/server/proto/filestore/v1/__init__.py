"""Version 1 of the gRPC port; the `_pb2` modules are generated."""
