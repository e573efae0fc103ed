"""The keys of [trace], with their documentation."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pool_service.config.types import DefaultText, Flaw, Form, Section

_COLLECTOR = re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?", re.IGNORECASE)


def _collector(text: str) -> str:
    if text and _COLLECTOR.fullmatch(text) is None:
        raise Flaw(f"{text!a} is no URL of a collector, such as http://127.0.0.1:4318")
    return text


Collector = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_collector),
    Form("URL", 'the URL of a collector in quotes, such as "http://127.0.0.1:4318"'),
]


class TraceSection(Section):
    """Where spans of calls and starts are sent."""

    endpoint: Annotated[
        Collector, DefaultText("`OTEL_EXPORTER_OTLP_ENDPOINT` if that is set; else none is sent")
    ] = Field(
        default="",
        description="The URL of a collector that takes OTLP over HTTP, without `/v1/traces`. Needs "
        "the extra `otel` of the package. The other variables `OTEL_…` (headers, certificates, "
        "sampling) count as well.",
    )
