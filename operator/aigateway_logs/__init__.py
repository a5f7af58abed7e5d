"""Logging for the operator and its pods: loguru in front, redaction first, files, and MongoDB through a durable spool.

`configure` is for programs that log to standard error only; `DualLog` is all of it. PyMongo is imported when there is
something to ship. Never imports the operator or kopf.
"""

from aigateway_logs.counters import Counters
from aigateway_logs.dual import DualLog
from aigateway_logs.front import configure
from aigateway_logs.known_secrets import register_secret
from aigateway_logs.records import OperationRecord, SystemRecord
from aigateway_logs.settings import FileSettings, LogSettings, MongoSettings, SpoolSettings, StreamSettings
from aigateway_logs.tracing import current_trace, new_trace_id, trace_of_generation, trace_of_request, tracing

__all__ = [
    "Counters",
    "DualLog",
    "FileSettings",
    "LogSettings",
    "MongoSettings",
    "OperationRecord",
    "SpoolSettings",
    "StreamSettings",
    "SystemRecord",
    "configure",
    "current_trace",
    "new_trace_id",
    "register_secret",
    "trace_of_generation",
    "trace_of_request",
    "tracing",
]
