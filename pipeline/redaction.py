"""What must not be kept: passwords, tokens and keys of the environment, in messages, tracebacks and logs."""

from __future__ import annotations

import os
import re

MASK = "[redacted]"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|CONNECTION_STRING|_SAS\b", re.I)
_SHORTEST = 6  # a shorter value would be found in half of all words
_SHAPES = (
    re.compile(r"(?<=://)[^/\s@:]+:[^/\s@]+(?=@)"),  # user:password@ in an address
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),  # an AWS access key
    re.compile(r"\b(?:ghp|gho|ghs|github_pat|hf|sk|xox[abp])[_-][A-Za-z0-9_-]{16,}"),  # tokens of well-known services
    re.compile(r"(?<=[?&]X-Amz-Signature=)[0-9a-f]+|(?<=[?&]sig=)[^&\s]+", re.I),  # signed addresses
    re.compile(r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S),
)


def redact(text: str) -> str:
    """`text` without the values of secret environment variables and without anything that looks like a credential."""
    values = [v for name, v in os.environ.items() if _SECRET_NAME.search(name) and len(v) >= _SHORTEST]
    for value in sorted(values, key=len, reverse=True):  # the longest first: one may be a part of another
        text = text.replace(value, MASK)
    for shape in _SHAPES:
        text = shape.sub(MASK, text)
    return text
