"""Indexes: keys to record numbers, behind one interface (`base.Index`).

`key` turns column values into keys whose unsigned or byte order is SQL order; `layout` tells the pages; `btree` is
the B+Tree on them, with one set of kernels for packed keys (`fixed_kernels`) and one for keys of bytes
(`slotted_kernels`); `find_kernels` is what other rooms' kernels call to go from a key to a record without leaving
compiled code.

Thread rule: that of `base`, but for the encoding of keys, which any thread may do. Not here: hash and other kinds of
index.
"""
