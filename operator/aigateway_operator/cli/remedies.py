"""What to do about an error of the API server, said below it by every command. Pure; called by the frame and by `doctor`."""

from __future__ import annotations

from typing import Final

from aigateway_operator.errors import AigatewayError, Forbidden, Unavailable

_UNAUTHORIZED: Final = 401


def remedy_of(error: AigatewayError) -> str:
    """Return a sentence, "" where the error's own text says what to do."""
    if isinstance(error, Unavailable) and not error.status:
        return "Is this the right cluster, and does it run? --kubeconfig and --context name another."
    if isinstance(error, Forbidden) and error.status == _UNAUTHORIZED:
        return "The API server does not know these credentials: log in again, or name another context with --context."
    if isinstance(error, Forbidden):
        return "Ask for that right, or name a context that has it with --context."
    return ""
