"""Snapshot → Plan: what should be true now. Pure: no I/O, no clock (`now` is an argument), nothing awaited.

`reconcile` gathers the snapshot and acts on the plan; `aigateway render`, `diff` and `local` use the same functions with
files instead of a cluster.
"""
