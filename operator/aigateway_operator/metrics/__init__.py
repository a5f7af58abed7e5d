"""What a scrape says: `process` of any process of ours, `controller` of gateways and rounds. Metrics are named in `measures`.

Reads what other rooms know and changes nothing. Wired by `main` and `webhook`.
"""
