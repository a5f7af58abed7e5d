"""The OpenAI-compatible gateway: callers' requests in, requests to the live backends out, by what `aigateway_config` reads.

Never imports the operator or kopf: a pod installs `aigateway[gateway]` and needs no cluster. From the bottom up: `settings`,
`openai_errors`, `trace`, `keys`, `limits`, `debugging`; `upstream`, `serving`; `stores`; `state`; `incoming`, `relay`, `calls`,
`models`, `health`, `config_page`, `docs_page`; `app`; `serve`; `workers`.
"""

__version__ = "0.1.0"
