"""Packages as the `.proto` files name them."""
