"""The two resources as pydantic models: the one source of schema, documentation and defaults.

Pure: pydantic only. Everything else reads these models; `crds/` and `docs/reference.md` are generated from them.
"""
