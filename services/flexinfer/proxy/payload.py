"""Payload: what a request carries, and the name of the Model in it: in JSON, in a form, or nothing at all."""

import msgspec

from flexinfer.proxy import forms, openai

READS = frozenset({"GET", "HEAD"})
"""Methods whose requests have no body: their path names the Model."""


class Payload(msgspec.Struct, frozen=True):
    """A body, the Model that it names, and, of a form, the field that names it."""

    body: bytes
    model: str | None = None
    is_form: bool = False
    field: forms.Field | None = None

    def for_engine(self, name: str) -> bytes:
        """Return the body with the name that the engine knows: all else, and all of a form that names no Model, as the client sent it.

        Raises RequestError (400) for JSON that is not an object.
        """
        if self.is_form:
            if self.field is None or self.model == name:
                return self.body
            return forms.with_model(self.body, self.field, name)
        return self.body if self.model == name or not self.body else openai.with_model(self.body, name)


def read(method: str, body: bytes, content_type: str) -> Payload:
    """Return the payload of a request. Raises RequestError (400) for a body that is neither JSON nor a form."""
    if method in READS:
        return Payload(b"")
    if forms.is_form(content_type):
        field = forms.model_field(body, content_type)
        return Payload(body, field.value if field else None, is_form=True, field=field)
    return Payload(body, openai.read(body).model)
