"""`spec.delivery.podSelector` → the label selector of the API server's query. Pure."""

from __future__ import annotations

from aigateway_operator.api.gatewayconfig import LabelExpression, PodSelector


def label_selector(selector: PodSelector) -> str:
    """Return the selector as `labelSelector` of a query wants it; equal selectors give equal texts.

    Source: Kubernetes "Labels and Selectors", set-based requirements.
    """
    equal = [f"{key}={value}" for key, value in selector.match_labels.items()]
    return ",".join(sorted([*equal, *map(_expression, selector.match_expressions)]))


def _expression(expression: LabelExpression) -> str:
    values = ",".join(sorted(set(expression.values)))
    match expression.operator:
        case "In":
            return f"{expression.key} in ({values})"
        case "NotIn":
            return f"{expression.key} notin ({values})"
        case "Exists":
            return expression.key
        case "DoesNotExist":
            return f"!{expression.key}"
