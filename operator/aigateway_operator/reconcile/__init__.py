"""The only loop: marks in, one round per gateway at a time, snapshot → plan → act, status writes beside it.

Talks to the cluster through the Protocols of `ports`; `main` joins the adapters to them. Knows nothing of kopf.
"""
