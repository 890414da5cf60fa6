"""The vendor's own job settings, put where a campaign file has them."""

from typing import Any


def from_vendor(spec: dict[str, Any]) -> dict[str, Any]:
    """The vendor's job settings in our places; a place that is already taken is an error."""
    spec = dict(spec)

    def take(section: str, key: str) -> Any:
        held = spec.get(section)
        if not isinstance(held, dict) or key not in held:
            return None
        spec[section] = {name: value for name, value in held.items() if name != key}
        return held[key]

    def put(target: str, value: Any, origin: str) -> None:
        if value is None:
            return
        if target in spec:
            raise ValueError(f"{origin} and {target} say the same; keep one")
        spec[target] = value

    put("algorithm", take("training", "algorithm"), "training.algorithm")
    put("execution_date", take("selection", "exe_date"), "selection.exe_date")
    target = take("training", "op_target")
    if target is not None:
        named = spec.get("algorithm")
        spec["algorithm"] = {**({"kind": named} if isinstance(named, str) else named or {})}
        if spec["algorithm"].setdefault("op_target", target) != target:
            raise ValueError("training.op_target and algorithm.op_target differ; keep one")
    threshold = take("selection", "percentage_threshold")
    if threshold is not None:
        if "threshold" in spec["selection"]:
            raise ValueError("selection.percentage_threshold and threshold: keep one")
        spec["selection"]["threshold"] = threshold
    return spec
