"""Accepted resources → the bytes that pods read. Pure and deterministic: no clock, no I/O, no order of arrival.

`plan` calls it; it does not know rules, Kubernetes or what is in the cluster. What the output means is defined in
`aigateway_config.documents`.
"""
