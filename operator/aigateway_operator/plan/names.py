"""Names of the generated objects of a gateway."""

from __future__ import annotations


def config_map_name(gateway: str, shard: int | None) -> str:
    """`<gateway>-config`, or `<gateway>-models-NN` for a shard."""
    return f"{gateway}-config" if shard is None else f"{gateway}-models-{shard:02d}"


def credentials_name(gateway: str, shard: int | None) -> str:
    """`<gateway>-credentials`, or `<gateway>-credentials-NN` for a shard."""
    return f"{gateway}-credentials" if shard is None else f"{gateway}-credentials-{shard:02d}"


def belongs_to(name: str, gateway: str) -> bool:
    """Tell whether a generated object of that name would be one of this gateway's."""
    rest = name.removeprefix(f"{gateway}-")
    if rest == name:
        return False
    kind, _, shard = rest.partition("-")
    return rest in {"config", "credentials"} or (kind in {"models", "credentials"} and len(shard) == 2 and shard.isdigit())


def shard_in(name: str, gateway: str) -> int | None:
    """Return the shard that the name of an object of this gateway (`belongs_to`) speaks of; None for the gateway's own."""
    _, _, shard = name.removeprefix(f"{gateway}-").partition("-")
    return int(shard) if shard else None
