"""Health of datastores and backends: connect as a gateway would, say Up, Denied, Down or NotReady, and never raise.

Knows targets, nothing of GatewayConfigs, statuses or the API server. One module a store; `prober` decides when. Called by the
reconciler through `Prober` of `reconcile/ports.py`; `main` joins the two. No password is ever in a message, an error or a log.
"""
