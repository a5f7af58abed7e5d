"""Real servers for tests, the demo and developers: binaries, a local control plane, datastores.

Standard library only, since it runs before any package is installed. Nothing in `operator/` imports it.
`python -m hack` is its command line; tests and the demo use `hack.controlplane` and `hack.stores`.
"""
