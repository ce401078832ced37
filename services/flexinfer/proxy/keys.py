"""Keys: whether a request carries the API key. Pure."""

import hmac

from multidict import CIMultiDictProxy

from flexinfer.proxy import errors

_SCHEME, _SPACE = "bearer", " \t"


def authorize(headers: CIMultiDictProxy[str], key: str) -> None:
    """Raise RequestError (401) unless one of the headers carries the API key; an empty key lets every client in.

    A header may hold any bytes; what is not UTF-8 arrives as surrogates.
    """
    tokens = [_token(value) for value in headers.getall("Authorization", ())]
    tokens += [value.strip(_SPACE) for value in headers.getall("x-api-key", ())]
    key_bytes = key.encode()
    if key and not any(
        hmac.compare_digest(token.encode(errors="surrogateescape"), key_bytes) for token in tokens
    ):
        raise errors.invalid_api_key()


def _token(value: str) -> str:
    """Return what follows the scheme, which RFC 9110 (11.1) allows in any case and RFC 9110 (11.4) with any number of spaces."""
    scheme, _, token = value.strip(_SPACE).replace("\t", " ").partition(" ")
    return token.strip(_SPACE) if scheme.lower() == _SCHEME else value.strip(_SPACE)
