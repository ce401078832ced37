"""Kubernetes quantities as numbers, such as `500m` and `2Gi`. Pure."""

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_SMALL = {"n": 10**-9, "u": 10**-6, "m": 10**-3}


def milli(quantity: str | float) -> int:
    """Return a quantity in thousandths, rounded up. Raises ValueError if it is not a quantity."""
    text = str(quantity)
    number = text.rstrip("EKMGTPiknum") if "e" not in text.lower()[1:-1] else text
    suffix = text[len(number) :]
    scale = {**_DECIMAL, **_BINARY, **_SMALL}.get(suffix)
    if scale is None:
        raise ValueError(f"{text!r} is not a quantity")
    value = float(number) * scale * 1000
    return int(value) if value == int(value) else int(value) + 1
