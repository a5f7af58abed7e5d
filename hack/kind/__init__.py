"""`make demo-kind`: the chart and both images on a cluster of kind, with kubelets and pods that are real.

`binary` gets kind; `commands` holds every command that is run, as values that tests hold against chart and API server;
`cluster` runs them; `calls` is a caller outside; `acts` is what is shown. `manifests/` and `gateway.yaml` are applied.
Where Docker is missing it says so: `make demo` needs none.
"""
