"""What every recipe has in common: frozen, nothing unknown, nothing that is not a number."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Config(BaseModel):
    """A frozen recipe. Equal recipes compare equal; an unknown key is an error; NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _whole(value: Any) -> Any:
    """`1`, `1.0` and `"1e0"` are the same count; True is not a count."""
    if isinstance(value, bool):
        raise ValueError("a whole number is wanted, not a truth value")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"a whole number is wanted, not {value!r}") from None
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
