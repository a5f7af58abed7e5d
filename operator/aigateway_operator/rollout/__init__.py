"""Delivery and proof: poke pods after a write, ask them what they run, until each says the same as what was written.

Knows pods and targets, nothing of GatewayConfigs, documents' content or Secrets. Reaches the API server only through what it
is handed (`rollout.ports`). Called by the reconciler through `Rollouts` of `reconcile/ports.py`; `main` joins the two.
"""
