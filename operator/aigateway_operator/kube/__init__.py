"""The adapter to the API server: plain JSON objects in and out, errors of `errors.py`, a deadline on every call.

Knows nothing of gateways, plans or rounds. `main` joins it to the Protocols of `reconcile/ports.py`.
"""
