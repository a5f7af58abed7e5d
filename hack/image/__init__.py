"""Container images: the Dockerfile built by whichever engine is at hand, a base where none can be pulled, and what must hold
for what is inside.

`engine` runs docker, podman or buildah; `base` makes a base image from Debian's packages; `dockerfile` reads our own
Dockerfile; `sandbox` runs its steps without an engine; `inside` is the check that runs in what was made; `slim` runs
inside the build. Called by `python -m hack image` and tests/image.
"""
