"""The tree of errors, told before anything that raises them.

    AigatewayError
    ├── SpecError          the user's to mend; never retried
    ├── RenderError        ours, or a limit of Kubernetes
    ├── SettingsError      a setting of the operator itself is wrong; ends the process with a message
    ├── CertificateError   a certificate or key that cannot be served; the one in use stays
    └── ClusterError       the API server's answer; retried with back-off
        ├── Conflict       409: somebody else wrote first
        ├── Forbidden      401 or 403: what is known is kept
        ├── NotFound       404
        ├── Rejected       any other 4xx: the request itself is wrong
        └── Unavailable    5xx, 429, time-outs and broken connections

Libraries' errors are wrapped where they occur (`raise … from`). Violations of rules are not errors: they are values.
Texts never hold the content of Secrets.
"""

from __future__ import annotations


class AigatewayError(Exception):
    """Everything this project raises on purpose."""


class SpecError(AigatewayError):
    """A manifest or a configuration file that only its author can mend."""


class RenderError(AigatewayError):
    """Documents could not be made: a limit of Kubernetes, or a fault of ours."""


class SettingsError(AigatewayError):
    """A setting of the operator is missing or wrong; the text names it and the remedy."""


class CertificateError(AigatewayError):
    """A certificate chain or key cannot be served: unreadable, or they do not belong together. Never holds the key."""


class ClusterError(AigatewayError):
    """The API server did not do what was asked.

    `status` is the HTTP code, 0 when no answer came. `retry_after_seconds` is what the server asked for, None if nothing.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Conflict(ClusterError):
    """409: the object changed since it was read, or already exists."""


class Forbidden(ClusterError):
    """401 or 403: a right is missing; what is already known is kept as it is."""


class NotFound(ClusterError):
    """404: the object, or its kind, is not there."""


class Rejected(ClusterError):
    """Any other 4xx: the request is refused as it stands; repeating it unchanged is useless."""


class Unavailable(ClusterError):
    """No usable answer: 5xx, 429, a time-out or a broken connection. The outcome of a write is unknown."""
