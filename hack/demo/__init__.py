"""`make demo`: the operator at work on a real API server, acted out step by step.

`__main__` sets the stage (a control plane, the operator with its own rights) and clears it away; `acts_*` are the steps,
each of which asserts what it shows; `front` is what callers meet (pods, the providers' stub, Redis), `door` the webhook;
`feed` watches objects and knows when each change arrived; `screen` prints. Nothing outside this package imports it but its
tests.
"""
