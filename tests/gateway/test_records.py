"""A gateway keeps records of requests as its GatewayConfig says: in files and MongoDB, followed live, without secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient

from hack.stores import MongoServer
from tests.eventually import eventually
from tests.gateway.programs import STREAM, Program, Volume, gateway_program
from tests.gateway.test_secrets_in_logs import BACKEND, CANARY, PROMPT, PROXY, exchange
from tests.stub_upstream import StubUpstream

BOTH = {**STREAM, "storage": {"sinks": ["mongodb", "file"], "path": "logs"}}
BODY = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}]}


def ask(program: Program, trace: str) -> None:
    """Ask the model once."""
    headers = {"Authorization": f"Bearer {PROXY}", "X-Trace-ID": trace}
    httpx.post(f"{program.url}/v1/chat/completions", json=BODY, headers=headers).raise_for_status()


def test_records_follow_spec_log_live_and_hold_no_prompt_and_no_key(
    tmp_path: Path, volume: Volume, stub: StubUpstream, mongo_server: MongoServer
) -> None:
    """Every request and reload, in both places; from the next edit on only what the new level keeps."""
    database = f"gateway_{os.getpid()}"
    tls: dict[str, Any] = {"username": None, "password_ref": None, "auth_source": "admin", "tls": None}
    mongodb = {"host": mongo_server.host, "port": mongo_server.port, "database": database, **tls}
    secrets = {"chat.proxy": PROXY, "backend.key": BACKEND}
    folder = tmp_path / "kept"
    volume.write("a", storage={"mongodb": mongodb}, secrets=secrets, stream=BOTH)
    with MongoClient[dict[str, Any]](mongo_server.url) as client:

        def found(**wanted: Any) -> list[dict[str, Any]]:
            return list(client[database]["operation_logs"].find(wanted))

        def asked(trace: str, count: int) -> None:
            assert len(found(trace_id=trace)) == count

        places = {"LOG_DIR": str(folder), "LOG_SPOOL_DIR": str(folder / "spool"), "LOG_LEVEL": "DEBUG", "ADMIN_KEY": CANARY}
        with gateway_program(tmp_path, **places) as program:
            exchange(program.url, stub)
            ask(program, "first")
            eventually(lambda: asked("first", 1), within_seconds=30)
            volume.write("b", storage={"mongodb": mongodb}, secrets=secrets, stream={**BOTH, "level": "ERROR"})

            def reloaded() -> None:
                ask(program, "later")
                assert stub.requests[-1].body["model"] == "up-b"

            eventually(reloaded, within_seconds=20)
            for number in range(50):
                ask(program, f"after-{number}")
            program.process.terminate()
            assert program.end() == 0
        assert found(trace_id="after-49") == []
        (record,) = found(trace_id="first")
        assert (record["operation"], record["resource_id"], record["user_id"]) == ("model_call", "chat", "chat.proxy")
        assert record["response_data"]["completion_tokens"] is not None
        assert found(operation="http_error")
        (reload,) = found(operation="config_update")
        assert (reload["resource_id"], reload["metadata"]["change_type"]) == ("ai/main", "reload")
        everything = {"MongoDB": str(found()).encode()}
        client.drop_database(database)
    everything |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any("operation_" in name for name in everything)
    assert [name for name, data in everything.items() if CANARY.encode() in data] == []
