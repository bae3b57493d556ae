"""Definitions of the gRPC port: `.proto` files and what protoc makes of them (see `docs/reference/protocols.md`)."""
