"""Logging for the operator and its pods: loguru in front, standard `logging` routed into it, redaction before any sink.

Files, the durable spool and MongoDB come with their own issue; today records go to standard error. Never imports the operator.
"""

from aigateway_logs.front import configure

__all__ = ["configure"]
