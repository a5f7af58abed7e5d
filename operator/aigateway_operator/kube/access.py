"""Where the API server is and who we are there: a kubeconfig, or the service account of the pod.

Loading is left to the official client (contexts, exec plugins, OIDC, token files). Credentials are secrets: they never
appear in a repr or an error. Called by `kube.transport` and, for the same credentials, by `handlers`.
"""

from __future__ import annotations

import asyncio
import os
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from kubernetes.aio import config as loading
from kubernetes.aio.client import Configuration

from aigateway_operator.errors import SettingsError

LOAD_SECONDS: Final = 60.0
"""How long an exec plugin may take: it may ask a provider, and some open a browser."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What another client needs to speak to the same server as the same user. Paths are of PEM files, None where unused.

    `authorization` is the value of that header ("Bearer …"), None with client certificates or without any.
    """

    server: str
    ca_file: str | None
    insecure: bool
    certificate_file: str | None
    key_file: str | None
    proxy: str | None
    authorization: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How to reach the cluster, before anything is read.

    kubeconfig: file to read; None: `$KUBECONFIG` or ~/.kube/config where there is one, else the pod's service account.
    context: None: the file's current one. server_override: another address of the same server (a proxy of the tests).
    """

    kubeconfig: Path | None = None
    context: str | None = None
    server_override: str | None = None

    async def load(self) -> Any:
        """Return a fresh `kubernetes.aio.client.Configuration`. Raises SettingsError naming what is missing and the remedy."""
        configuration = Configuration()
        try:
            if self.kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST") and "KUBECONFIG" not in os.environ:
                loading.load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # the package types only a part
            else:
                async with asyncio.timeout(LOAD_SECONDS):
                    await self._load_kubeconfig(configuration)
        except TimeoutError:
            raise SettingsError(
                f"the credential plugin of {self._place()} did not answer within {LOAD_SECONDS:g} s; "
                "run its command (users[].user.exec) by hand to see what it waits for"
            ) from None
        except (loading.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            # The library's texts name files and keys of the kubeconfig, but may also quote a value: only the kind is kept.
            raise SettingsError(
                f"cannot load credentials for the cluster from {self._place()} ({type(error).__name__}); see that it is a "
                "kubeconfig with a current context, or name another with --kubeconfig or $KUBECONFIG, and --context"
            ) from None
        if self.server_override is not None:
            configuration.host = self.server_override.rstrip("/")
        if configuration.proxy is None:
            configuration.proxy = _proxy_of_environment(configuration.host)
        configuration.disable_strict_ssl_verification = True  # see `aigateway_config.tls`
        # Watches take a connection each: with the default of 100, thirty-four namespaces would starve every other call.
        configuration.connection_pool_maxsize = 0
        # trust_env would read netrc before each request; the proxy is settled above.
        configuration.client_session_kwargs = {"trust_env": False}
        return configuration

    async def credentials(self) -> Credentials:
        """Return fresh credentials for another client. Raises SettingsError as `load` does."""
        configuration = await self.load()
        return Credentials(
            server=configuration.host,
            ca_file=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_file=configuration.cert_file,
            key_file=configuration.key_file,
            proxy=configuration.proxy,
            authorization=await authorization(configuration),
        )

    async def _load_kubeconfig(self, configuration: Any) -> None:
        await loading.load_kube_config(  # type: ignore[no-untyped-call]  # as above
            config_file=self._kubeconfig_file(),
            context=self.context,
            client_configuration=configuration,
            persist_config=False,
        )

    def _kubeconfig_file(self) -> str:
        """Return the file, or several with os.pathsep between. Raises SettingsError where none of them can be read."""
        if self.kubeconfig is None:
            named = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
        else:
            named = str(self.kubeconfig)
        if not any(os.access(Path(one).expanduser(), os.R_OK) for one in named.split(os.pathsep)):
            raise SettingsError(f"kubeconfig {named} is not readable; name another with --kubeconfig or $KUBECONFIG")
        return named

    def _place(self) -> str:
        named = self.kubeconfig or os.environ.get("KUBECONFIG")
        if named is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return "the pod's service account"
        return f"{named or '~/.kube/config'}" + (f", context {self.context}" if self.context else "")


async def authorization(configuration: Any) -> str | None:
    """Return the current value of the Authorization header, None where there is none.

    In a pod this re-reads the token file once a minute (a few bytes of a memory file system).
    """
    settings = await configuration.auth_settings()
    value = settings.get("BearerToken", {}).get("value")
    return value.strip() if isinstance(value, str) else None


def _proxy_of_environment(server: str) -> str | None:
    """Return the proxy that HTTPS_PROXY or HTTP_PROXY name for this server, None where NO_PROXY exempts it."""
    url = urlsplit(server)
    if url.hostname is None or urllib.request.proxy_bypass(url.hostname):
        return None
    return urllib.request.getproxies().get(url.scheme)
