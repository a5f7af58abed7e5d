"""The gateway's datastores: clients made when they are first needed, looked at in the background, rebuilt when told so.

They never decide whether a request is answered: a store that is away makes health say `degraded` and nothing else.
"""
