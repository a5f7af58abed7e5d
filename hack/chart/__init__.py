"""What is made of the chart's values.yaml: its JSON Schema and its page in docs/; and its copies of config/monitoring."""
